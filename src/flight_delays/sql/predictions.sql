CREATE TABLE IF NOT EXISTS {schema}.predictions (
  prediction_id STRING NOT NULL COMMENT 'Digest of entity, prediction time, model, version and source',
  entity_id STRING NOT NULL COMMENT 'What is forecast',
  prediction_ts TIMESTAMP NOT NULL COMMENT 'The features are as known at this time, UTC',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that made the prediction',
  scored_at TIMESTAMP NOT NULL COMMENT 'As-of time of the run that scored, UTC',
  scored_date DATE NOT NULL COMMENT 'Day of scored_at, UTC',
  probability DOUBLE COMMENT 'Probability of a label of 1; null unless a classification',
  prediction DOUBLE NOT NULL COMMENT 'Of a classification 1 from the decision threshold on, else 0; otherwise the value',
  response_time_ms DOUBLE COMMENT 'Time to answer, milliseconds; null unless served',
  source STRING NOT NULL COMMENT 'batch, stream or serving',
  run_id STRING COMMENT 'The row of runs that says what it was scored by and from; null if served'
  , CONSTRAINT predictions_pk PRIMARY KEY (prediction_id) -- Unity Catalog only
) USING delta
PARTITIONED BY (scored_date)
COMMENT 'Every prediction ever made, by version; rows are only added'
TBLPROPERTIES (delta.enableChangeDataFeed = true, delta.checkpointInterval = 1000);

ALTER TABLE {schema}.predictions ADD CONSTRAINT probability_in_range CHECK (probability IS NULL OR probability BETWEEN 0 AND 1);

ALTER TABLE {schema}.predictions ADD CONSTRAINT known_source CHECK (source IN ('batch', 'stream', 'serving'));
