CREATE TABLE IF NOT EXISTS {schema}.latest_predictions (
  flight_id STRING NOT NULL COMMENT 'Flight',
  prediction_ts TIMESTAMP NOT NULL COMMENT 'The features are as known at this time, UTC',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that made the prediction',
  scored_at TIMESTAMP NOT NULL COMMENT 'As-of time of the run that scored, UTC',
  probability DOUBLE NOT NULL COMMENT 'Probability of arriving 15 minutes late or more',
  prediction BIGINT NOT NULL COMMENT '1 from the decision threshold on, else 0',
  source STRING NOT NULL COMMENT 'batch or stream'
  , CONSTRAINT latest_predictions_pk PRIMARY KEY (flight_id) -- Unity Catalog only
) USING delta
COMMENT 'The newest prediction of each flight, for look-up'
TBLPROPERTIES (delta.enableChangeDataFeed = true);
