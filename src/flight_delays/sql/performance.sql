CREATE TABLE IF NOT EXISTS {schema}.performance (
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that made the forecasts',
  source STRING NOT NULL COMMENT 'batch, stream or serving; shadow: by a challenger beside the champion',
  day DATE NOT NULL COMMENT 'Day on which the outcomes count, in the zone of the use case; none that the version was trained on',
  dimension STRING NOT NULL COMMENT 'What rows are grouped by, as the use case slices them; all: not grouped',
  slice STRING NOT NULL COMMENT 'Value of the dimension; all: all rows',
  complete BOOLEAN NOT NULL COMMENT 'Whether the day had ended long enough before as_of: outcomes that take long are in',
  rows BIGINT NOT NULL COMMENT 'Entities, each once: by the newest forecast before its outcome was known',
  labelled BIGINT NOT NULL COMMENT 'Those with a label known by as_of',
  loss DOUBLE COMMENT 'Mean loss of the labelled rows, by the objective of the use case; null without any',
  calibration DOUBLE COMMENT 'Mean forecast minus mean label of the labelled rows; null without any',
  metrics MAP<STRING, DOUBLE> COMMENT 'Metrics of the objective on the labelled rows, those that are defined; null without any',
  confidence DOUBLE COMMENT 'Mean probability of the predicted class, over all rows; null unless a classification',
  answers BIGINT COMMENT 'Rows that the endpoint answered, also of an entity asked for again or too late; null unless served',
  mean_latency_ms DOUBLE COMMENT 'Mean time to answer them, milliseconds; null unless served',
  p95_latency_ms DOUBLE COMMENT '95th percentile of the time to answer them, milliseconds; null unless served',
  digest BIGINT NOT NULL COMMENT 'Of the forecasts and labels behind the day: while it is the same, nothing is measured again',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the run that measured it, UTC'
  , CONSTRAINT performance_pk PRIMARY KEY (model_name, model_version, source, day, dimension, slice) -- Unity Catalog only
) USING delta
COMMENT 'How good the forecasts of each version were, by day and slice';
