CREATE TABLE IF NOT EXISTS {schema}.runs (
  run_id STRING NOT NULL COMMENT 'Of a batch run a digest of model, version, features, as_of and days; of the stream query and micro-batch',
  source STRING NOT NULL COMMENT 'batch, shadow, stream or landing',
  query_id STRING COMMENT 'Streaming query; null for batch',
  batch_id BIGINT COMMENT 'Micro-batch of the query; of a landing the last one that it landed; null for batch',
  model_name STRING COMMENT 'Registered model; null for a landing',
  model_version INT COMMENT 'Version number that scores, however often a micro-batch is replayed; null for a landing',
  table_ids MAP<STRING, STRING> NOT NULL COMMENT 'Identity of each table that is read: a table made anew is another',
  table_versions MAP<STRING, BIGINT> NOT NULL COMMENT 'Delta version of each table that is read',
  landed BIGINT COMMENT 'Last micro-batch whose events those tables hold, -1 for none; null for batch',
  newest MAP<STRING, TIMESTAMP> COMMENT 'Newest event time of each source up to here, UTC; null for batch',
  watermark_seconds DOUBLE COMMENT 'How far the watermark is behind the newest event, seconds; null for batch',
  as_of TIMESTAMP NOT NULL COMMENT 'What the run takes for now, UTC: of a stream the newest event time of all',
  scored BIGINT COMMENT 'Predictions that a batch run added; null for the stream, whose record is written before',
  recorded_at TIMESTAMP NOT NULL COMMENT 'When this was written, UTC'
  , CONSTRAINT runs_pk PRIMARY KEY (run_id) -- Unity Catalog only
) USING delta
COMMENT 'What each scoring run and micro-batch is scored by and from; of a micro-batch before it is scored'
TBLPROPERTIES (delta.checkpointInterval = 1000, delta.dataSkippingNumIndexedCols = 4);
