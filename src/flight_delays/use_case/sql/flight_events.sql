CREATE TABLE IF NOT EXISTS {schema}.flight_events (
  event_id STRING COMMENT 'Of the event, the same in every copy of it',
  kind STRING COMMENT 'scheduled, departed or arrived',
  event_time TIMESTAMP COMMENT 'When it was known, UTC',
  sent_at TIMESTAMP COMMENT 'When it was put into this table, UTC',
  sequence BIGINT COMMENT 'Place in the order of sending',
  flight_id STRING COMMENT 'carrier-flight-origin-dest-scheduled departure in UTC',
  carrier STRING COMMENT 'Airline, IATA code',
  flight INT COMMENT 'Flight number',
  tailnum STRING COMMENT 'Aircraft; null where the airline reported none',
  origin STRING COMMENT 'Airport of departure',
  dest STRING COMMENT 'Airport of arrival',
  distance BIGINT COMMENT 'Distance, miles',
  flight_date DATE COMMENT 'Day of the scheduled departure, in New York',
  sched_dep_ts TIMESTAMP COMMENT 'Scheduled departure, UTC',
  sched_arr_time BIGINT COMMENT 'Scheduled arrival, local hhmm',
  known_at TIMESTAMP COMMENT 'When schedule and aircraft were known, UTC',
  dep_delay DOUBLE COMMENT 'Departure delay, minutes; null until it has departed',
  arr_delay DOUBLE COMMENT 'Arrival delay, minutes; null until it has arrived',
  air_time DOUBLE COMMENT 'Time in the air, minutes; null until it has arrived',
  departure_known_at TIMESTAMP COMMENT 'When the departure was known, UTC; null until then',
  outcome_known_at TIMESTAMP COMMENT 'When the arrival was known, UTC; null until then'
) USING delta
COMMENT 'What airlines report of a flight, as delivered: copies, late and malformed events too'
TBLPROPERTIES (delta.enableChangeDataFeed = true);
