CREATE TABLE IF NOT EXISTS {schema}.scoring_runs (
  run_id STRING NOT NULL COMMENT 'Digest of model, version, features and as_of',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that scored',
  features_version BIGINT NOT NULL COMMENT 'Delta version of features up to which it has scored all',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the run, UTC: what was known by then is scored',
  recorded_at TIMESTAMP NOT NULL COMMENT 'When this was written, UTC'
  , CONSTRAINT scoring_runs_pk PRIMARY KEY (run_id) -- Unity Catalog only
) USING delta
COMMENT 'How far each version has got with scoring features; the next run goes on from there';
