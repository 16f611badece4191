CREATE TABLE IF NOT EXISTS {schema}.weather_events (
  event_id STRING COMMENT 'Of the event, the same in every copy of it',
  kind STRING COMMENT 'weather',
  event_time TIMESTAMP COMMENT 'When it was known, UTC',
  sent_at TIMESTAMP COMMENT 'When it was put into this table, UTC',
  sequence BIGINT COMMENT 'Place in the order of sending',
  origin STRING COMMENT 'Airport of the station',
  observed_at TIMESTAMP COMMENT 'Hour that the event describes, UTC',
  known_at TIMESTAMP COMMENT 'When the row was known: the end of its hour, UTC',
  temp DOUBLE COMMENT 'Temperature, Fahrenheit',
  dewp DOUBLE COMMENT 'Dew point, Fahrenheit',
  humid DOUBLE COMMENT 'Relative humidity, percent',
  wind_dir DOUBLE COMMENT 'Wind direction, degrees',
  wind_speed DOUBLE COMMENT 'Wind speed, mph',
  wind_gust DOUBLE COMMENT 'Wind gust, mph; null without gusts',
  precip DOUBLE COMMENT 'Precipitation, inches',
  pressure DOUBLE COMMENT 'Sea level pressure, millibars',
  visib DOUBLE COMMENT 'Visibility, miles'
) USING delta
COMMENT 'Hourly weather at the airports of departure, as delivered: copies, late and malformed events too'
TBLPROPERTIES (delta.enableChangeDataFeed = true);
