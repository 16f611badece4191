CREATE TABLE IF NOT EXISTS {schema}.raw_hours (
  hour_id STRING NOT NULL COMMENT 'The hour in UTC: 2011-07-04T13Z',
  city STRING NOT NULL COMMENT 'Where',
  day DATE NOT NULL COMMENT 'Day of the hour, in Washington',
  begins_at TIMESTAMP NOT NULL COMMENT 'When it begins, UTC',
  hour_of_day BIGINT NOT NULL COMMENT 'From 0, in Washington',
  hour_of_week BIGINT NOT NULL COMMENT 'From 0 on Monday at midnight, in Washington',
  holiday BIGINT NOT NULL COMMENT '1 on a holiday, else 0',
  workingday BIGINT NOT NULL COMMENT '1 on a working day, else 0',
  known_at TIMESTAMP NOT NULL COMMENT 'When it is asked about: six hours before it begins, UTC',
  bikers BIGINT COMMENT 'Rentals; null until counted',
  counted_at TIMESTAMP COMMENT 'When they were counted: at its end, UTC'
  , CONSTRAINT raw_hours_pk PRIMARY KEY (hour_id) -- Unity Catalog only
) USING delta
COMMENT 'Hours, and how many bikes were rented in them';
