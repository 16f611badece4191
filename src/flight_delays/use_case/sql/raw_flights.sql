CREATE TABLE IF NOT EXISTS {schema}.raw_flights (
  flight_id STRING NOT NULL COMMENT 'carrier-flight-origin-dest-scheduled departure in UTC',
  carrier STRING NOT NULL COMMENT 'Airline, IATA code',
  flight INT NOT NULL COMMENT 'Flight number',
  tailnum STRING COMMENT 'Aircraft; null where the airline reported none',
  origin STRING NOT NULL COMMENT 'Airport of departure',
  dest STRING NOT NULL COMMENT 'Airport of arrival',
  distance BIGINT NOT NULL COMMENT 'Distance, miles',
  flight_date DATE NOT NULL COMMENT 'Day of the scheduled departure, in New York',
  sched_dep_ts TIMESTAMP NOT NULL COMMENT 'Scheduled departure, UTC',
  sched_arr_time BIGINT NOT NULL COMMENT 'Scheduled arrival, local hhmm',
  known_at TIMESTAMP NOT NULL COMMENT 'When schedule and aircraft were known: two hours before scheduled departure, UTC',
  dep_delay DOUBLE COMMENT 'Departure delay, minutes; null if it never departed',
  arr_delay DOUBLE COMMENT 'Arrival delay, minutes; null if it never arrived at its destination',
  air_time DOUBLE COMMENT 'Time in the air, minutes',
  departure_known_at TIMESTAMP COMMENT 'When the departure was known, UTC; null if it never departed',
  outcome_known_at TIMESTAMP COMMENT 'When the arrival was known, UTC; null if it never arrived'
  , CONSTRAINT raw_flights_pk PRIMARY KEY (flight_id) -- Unity Catalog only
) USING delta
COMMENT 'Scheduled departures from New York City and how they ended';
