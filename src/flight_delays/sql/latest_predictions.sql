CREATE TABLE IF NOT EXISTS {schema}.latest_predictions (
  entity_id STRING NOT NULL COMMENT 'What is forecast',
  prediction_ts TIMESTAMP NOT NULL COMMENT 'The features are as known at this time, UTC',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that made the prediction',
  scored_at TIMESTAMP NOT NULL COMMENT 'As-of time of the run that scored, UTC',
  probability DOUBLE COMMENT 'Probability of a label of 1; null unless a classification',
  prediction DOUBLE NOT NULL COMMENT 'Of a classification 1 from the decision threshold on, else 0; otherwise the value',
  source STRING NOT NULL COMMENT 'batch or stream'
  , CONSTRAINT latest_predictions_pk PRIMARY KEY (entity_id) -- Unity Catalog only
) USING delta
COMMENT 'The newest prediction of each entity, for look-up'
TBLPROPERTIES (delta.enableChangeDataFeed = true);
