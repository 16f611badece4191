CREATE TABLE IF NOT EXISTS {schema}.flight_features (
  flight_id STRING NOT NULL COMMENT 'Flight',
  prediction_ts TIMESTAMP NOT NULL COMMENT 'The features are as known at this time, UTC: two hours before scheduled departure',
  flight_date DATE NOT NULL COMMENT 'Day of the scheduled departure, in New York',
  carrier STRING NOT NULL COMMENT 'Airline, IATA code',
  origin STRING NOT NULL COMMENT 'Airport of departure',
  dest STRING NOT NULL COMMENT 'Airport of arrival',
  tailnum STRING COMMENT 'Aircraft',
  distance BIGINT NOT NULL COMMENT 'Distance, miles',
  sched_dep_ts TIMESTAMP NOT NULL COMMENT 'Scheduled departure, UTC',
  sched_arr_time BIGINT NOT NULL COMMENT 'Scheduled arrival, local hhmm',
  weather_temp DOUBLE COMMENT 'Temperature at the origin, Fahrenheit',
  weather_dewp DOUBLE COMMENT 'Dew point, Fahrenheit',
  weather_humid DOUBLE COMMENT 'Relative humidity, percent',
  weather_wind_dir DOUBLE COMMENT 'Wind direction, degrees',
  weather_wind_speed DOUBLE COMMENT 'Wind speed, mph',
  weather_wind_gust DOUBLE COMMENT 'Wind gust, mph',
  weather_precip DOUBLE COMMENT 'Precipitation, inches',
  weather_pressure DOUBLE COMMENT 'Sea level pressure, millibars',
  weather_visib DOUBLE COMMENT 'Visibility, miles',
  weather_age_minutes DOUBLE COMMENT 'Age of the weather row at prediction time, minutes; null if none was known within 6 hours',
  plane_year_built DOUBLE COMMENT 'Year the aircraft was built',
  plane_seats DOUBLE COMMENT 'Seats of the aircraft',
  plane_engines DOUBLE COMMENT 'Engines of the aircraft'
  , CONSTRAINT flight_features_pk PRIMARY KEY (flight_id, prediction_ts TIMESERIES) -- Unity Catalog only
) USING delta
COMMENT 'What was known about a flight two hours before its scheduled departure';
