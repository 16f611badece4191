CREATE TABLE IF NOT EXISTS {schema}.raw_conditions (
  city STRING NOT NULL COMMENT 'Where',
  begins_at TIMESTAMP NOT NULL COMMENT 'Hour that was measured, UTC',
  known_at TIMESTAMP NOT NULL COMMENT 'When it was over, UTC',
  severity DOUBLE NOT NULL COMMENT 'From 0, clear, to 3, heavy rain or snow',
  temp DOUBLE COMMENT 'Temperature, a share of 41 degrees Celsius',
  hum DOUBLE COMMENT 'Humidity, a share',
  windspeed DOUBLE COMMENT 'Wind speed, a share of 67 km/h'
  , CONSTRAINT raw_conditions_pk PRIMARY KEY (city, begins_at) -- Unity Catalog only
) USING delta
COMMENT 'The weather of each hour';
