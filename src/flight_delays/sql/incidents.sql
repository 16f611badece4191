CREATE TABLE IF NOT EXISTS {schema}.incidents (
  incident_id STRING NOT NULL COMMENT 'Digest of model, family and first day',
  number INT NOT NULL COMMENT 'Of the event within the incident, from 0',
  event STRING NOT NULL COMMENT 'OPENED, GREW: more is affected, ACKNOWLEDGED: a person looks after it, or RESOLVED',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that was the champion',
  family STRING NOT NULL COMMENT 'data: of what the model is given; performance: of how its forecasts turn out',
  subjects ARRAY<STRING> NOT NULL COMMENT 'All that is affected so far: kind and subject of its signals',
  since DATE NOT NULL COMMENT 'First day of the first window that raised an alarm',
  day DATE NOT NULL COMMENT 'Last day that was looked at',
  reason STRING NOT NULL COMMENT 'What changed, by how much, and what to do; of a person, why',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the run, UTC',
  recorded_at TIMESTAMP NOT NULL COMMENT 'When the row was written, by the clock, UTC; decides nothing'
  , CONSTRAINT incidents_pk PRIMARY KEY (incident_id, number) -- Unity Catalog only
) USING delta
COMMENT 'Every event of every incident; rows are only added. One incident, however many runs see it';
