CREATE TABLE IF NOT EXISTS {schema}.stream_batches (
  query_id STRING NOT NULL COMMENT 'Streaming query',
  batch_id BIGINT NOT NULL COMMENT 'Micro-batch of the query',
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that scores the micro-batch, however often it is replayed',
  table_versions MAP<STRING, BIGINT> NOT NULL COMMENT 'Delta version of each table that it reads',
  newest MAP<STRING, TIMESTAMP> NOT NULL COMMENT 'Newest event time of each source up to here, UTC',
  as_of TIMESTAMP NOT NULL COMMENT 'Newest event time of all: what the stream takes for now, UTC',
  recorded_at TIMESTAMP NOT NULL COMMENT 'When this was written, UTC'
  , CONSTRAINT stream_batches_pk PRIMARY KEY (query_id, batch_id) -- Unity Catalog only
) USING delta
COMMENT 'What each micro-batch is scored by and from, written before it is scored';
