CREATE TABLE IF NOT EXISTS {schema}.shadow_predictions (
  prediction_id STRING NOT NULL COMMENT 'Digest of entity, prediction time, model, version and source',
  entity_id STRING NOT NULL COMMENT 'What is forecast',
  prediction_ts TIMESTAMP NOT NULL COMMENT 'The features are as known at this time, UTC',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that made the prediction',
  scored_at TIMESTAMP NOT NULL COMMENT 'As-of time of the run that scored, UTC',
  scored_date DATE NOT NULL COMMENT 'Day of scored_at, UTC',
  probability DOUBLE COMMENT 'Probability of a label of 1; null unless a classification',
  prediction DOUBLE NOT NULL COMMENT 'Of a classification 1 from the decision threshold on, else 0; otherwise the value',
  response_time_ms DOUBLE COMMENT 'Null: nobody asked',
  source STRING NOT NULL COMMENT 'shadow',
  run_id STRING COMMENT 'The row of runs that says what it was scored by and from'
  , CONSTRAINT shadow_predictions_pk PRIMARY KEY (prediction_id) -- Unity Catalog only
) USING delta
PARTITIONED BY (scored_date)
COMMENT 'What a challenger forecast beside the champion; a table of its own, since nothing may take it for a forecast of the model';

ALTER TABLE {schema}.shadow_predictions ADD CONSTRAINT known_source CHECK (source = 'shadow');
