CREATE TABLE IF NOT EXISTS {schema}.raw_weather (
  origin STRING NOT NULL COMMENT 'Airport of the station',
  observed_at TIMESTAMP NOT NULL COMMENT 'Hour that the row describes, UTC',
  known_at TIMESTAMP NOT NULL COMMENT 'When the row was known: the end of its hour, UTC',
  temp DOUBLE COMMENT 'Temperature, Fahrenheit',
  dewp DOUBLE COMMENT 'Dew point, Fahrenheit',
  humid DOUBLE COMMENT 'Relative humidity, percent',
  wind_dir DOUBLE COMMENT 'Wind direction, degrees',
  wind_speed DOUBLE COMMENT 'Wind speed, mph',
  wind_gust DOUBLE COMMENT 'Wind gust, mph; null without gusts',
  precip DOUBLE COMMENT 'Precipitation, inches',
  pressure DOUBLE COMMENT 'Sea level pressure, millibars',
  visib DOUBLE COMMENT 'Visibility, miles'
  , CONSTRAINT raw_weather_pk PRIMARY KEY (origin, observed_at, known_at) -- Unity Catalog only
) USING delta
COMMENT 'Hourly weather at the airports of departure';
