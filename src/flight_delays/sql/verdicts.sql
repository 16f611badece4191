CREATE TABLE IF NOT EXISTS {schema}.verdicts (
  verdict_id STRING NOT NULL COMMENT 'Digest of all that the verdict says: model, version, baseline, days, policy, evidence',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version that was judged',
  champion_version INT COMMENT 'Version it was compared with; null if none served',
  verdict STRING NOT NULL COMMENT 'PASS, FAIL or INCONCLUSIVE',
  reasons ARRAY<STRING> NOT NULL COMMENT 'One line per check',
  evidence STRING NOT NULL COMMENT 'Checks and slices with their numbers, JSON',
  policy STRING NOT NULL COMMENT 'The rule that decided, JSON',
  holdout_first DATE NOT NULL COMMENT 'First day of evidence',
  holdout_end DATE NOT NULL COMMENT 'Day after the last one',
  holdout_digest STRING COMMENT 'SHA-256 of the rows of evidence, features and labels; null if none was read',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the decision, UTC',
  recorded_at TIMESTAMP NOT NULL COMMENT 'When the row was written, by the clock, UTC; decides nothing'
  , CONSTRAINT verdicts_pk PRIMARY KEY (verdict_id) -- Unity Catalog only
) USING delta
COMMENT 'Every verdict on a model version; rows are only added';

ALTER TABLE {schema}.verdicts ADD CONSTRAINT known_verdict CHECK (verdict IN ('PASS', 'FAIL', 'INCONCLUSIVE'));
