CREATE TABLE IF NOT EXISTS {schema}.decisions (
  decision_id STRING NOT NULL COMMENT 'Digest of all that the decision says but measured times and sizes, or of what makes it the same one',
  kind STRING NOT NULL COMMENT 'verdict: may a version serve? approval: does a person agree? promotion or rollback: from now on it does; rollout: a step on the way; retraining: is a new version needed?',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version that the decision is on',
  other_version INT COMMENT 'Version it was compared with, or that it replaces; null if there was none',
  outcome STRING NOT NULL COMMENT 'Of a verdict or an approval: PASS, FAIL or INCONCLUSIVE; of a rollout what was done; of a retraining RETRAIN or KEEP; else DONE',
  reasons ARRAY<STRING> NOT NULL COMMENT 'Why, a line each',
  evidence STRING NOT NULL COMMENT 'The numbers behind it, JSON',
  policy STRING NOT NULL COMMENT 'The rule that decided, JSON',
  allowed_by STRING COMMENT 'The decision that allowed this one; null if none had to',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the decision, UTC',
  recorded_at TIMESTAMP NOT NULL COMMENT 'When the row was written, by the clock, UTC; decides nothing'
  , CONSTRAINT decisions_pk PRIMARY KEY (decision_id) -- Unity Catalog only
) USING delta
COMMENT 'Every decision on a model version; rows are only added';

-- Of tables made before there were rollouts.
ALTER TABLE {schema}.decisions DROP CONSTRAINT known_outcome;

-- And of those made before there was retraining.
ALTER TABLE {schema}.decisions DROP CONSTRAINT known_outcomes;

ALTER TABLE {schema}.decisions ADD CONSTRAINT allowed_outcomes CHECK (outcome IN ('PASS', 'FAIL', 'INCONCLUSIVE', 'DONE', 'START', 'SERVE', 'HOLD', 'ADVANCE', 'PROMOTE', 'ROLL_BACK', 'ASK', 'PAUSE', 'RESUME', 'AB_TEST', 'RETRAIN', 'KEEP'));
