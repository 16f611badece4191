CREATE TABLE IF NOT EXISTS {schema}.rollouts (
  rollout_id STRING NOT NULL COMMENT 'Digest of model, version, action and verdict',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version that serves from now on',
  previous_version INT COMMENT 'Version that served before; null if none did',
  action STRING NOT NULL COMMENT 'deploy',
  verdict_id STRING NOT NULL COMMENT 'The verdict that allowed it',
  reason STRING NOT NULL COMMENT 'By which rule',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the decision, UTC',
  recorded_at TIMESTAMP NOT NULL COMMENT 'When the row was written, by the clock, UTC; decides nothing'
  , CONSTRAINT rollouts_pk PRIMARY KEY (rollout_id) -- Unity Catalog only
) USING delta
COMMENT 'Every change of the version that serves; rows are only added';
