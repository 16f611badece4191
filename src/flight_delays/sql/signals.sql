CREATE TABLE IF NOT EXISTS {schema}.signals (
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that was the champion',
  kind STRING NOT NULL COMMENT 'drift, or what else was looked at: volume, freshness, duplicates, nulls, unseen, constant, range, coverage, decay',
  subject STRING NOT NULL COMMENT 'The column, or what the rows are of',
  day DATE NOT NULL COMMENT 'Last day of the window, in the zone of the use case',
  days INT NOT NULL COMMENT 'Length of the window, days',
  outcome STRING NOT NULL COMMENT 'OK, ALARM, or UNKNOWN: not measured, for the reason given',
  value DOUBLE COMMENT 'What was measured; null if nothing was',
  allowed DOUBLE COMMENT 'Beyond this it is an alarm; null if nothing was measured',
  p_value DOUBLE COMMENT 'Probability of so large a value if nothing had changed; null unless drift',
  reason STRING NOT NULL COMMENT 'What was found, one line',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the run that looked, UTC'
  , CONSTRAINT signals_pk PRIMARY KEY (model_name, model_version, kind, subject, day, days) -- Unity Catalog only
) USING delta
COMMENT 'What the monitor looked at, window by window; what was found once stays, but UNKNOWN';
