CREATE TABLE IF NOT EXISTS {schema}.flight_labels (
  flight_id STRING NOT NULL COMMENT 'Flight',
  flight_date DATE NOT NULL COMMENT 'Day of the scheduled departure, in New York',
  is_late INT NOT NULL COMMENT '1 if it arrived 15 minutes late or more, else 0',
  arr_delay DOUBLE NOT NULL COMMENT 'Arrival delay, minutes',
  known_at TIMESTAMP NOT NULL COMMENT 'When the outcome was known, UTC'
  , CONSTRAINT flight_labels_pk PRIMARY KEY (flight_id) -- Unity Catalog only
) USING delta
COMMENT 'How flights ended; a flight that never arrived has no row';
