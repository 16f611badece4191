CREATE TABLE IF NOT EXISTS {schema}.features (
  entity_id STRING NOT NULL COMMENT 'The hour in UTC',
  prediction_ts TIMESTAMP NOT NULL COMMENT 'The features are as known at this time, UTC: six hours before the hour',
  day DATE NOT NULL COMMENT 'Day of the hour, in Washington',
  begins_at TIMESTAMP NOT NULL COMMENT 'When the hour begins, UTC',
  holiday BIGINT NOT NULL COMMENT '1 on a holiday, else 0',
  workingday BIGINT NOT NULL COMMENT '1 on a working day, else 0',
  city STRING NOT NULL COMMENT 'Where',
  hour_of_day BIGINT NOT NULL COMMENT 'From 0, in Washington',
  hour_of_week BIGINT NOT NULL COMMENT 'From 0 on Monday at midnight, in Washington',
  weather_severity DOUBLE COMMENT 'Newest weather within 6 hours: from 0, clear, to 3',
  weather_temp DOUBLE COMMENT 'Its temperature',
  weather_hum DOUBLE COMMENT 'Its humidity',
  weather_windspeed DOUBLE COMMENT 'Its wind speed',
  last_hour DOUBLE COMMENT 'Rentals of the newest hour counted within 6 hours',
  same_hour DOUBLE COMMENT 'Rentals of this hour of the day, the newest counted within 3 days',
  same_hour_last_week DOUBLE COMMENT 'Rentals of this hour of the week, the newest counted within 15 days',
  mean_24h DOUBLE COMMENT 'Rentals per hour of those counted within 24 hours',
  mean_7d DOUBLE COMMENT 'Rentals per hour of those counted within 7 days'
  , CONSTRAINT features_pk PRIMARY KEY (entity_id, prediction_ts TIMESERIES) -- Unity Catalog only
) USING delta
COMMENT 'What was known about an hour six hours before it began'
TBLPROPERTIES (delta.enableChangeDataFeed = true);
