CREATE TABLE IF NOT EXISTS {schema}.stream_progress (
  query_id STRING NOT NULL COMMENT 'Streaming query',
  batch_id BIGINT NOT NULL COMMENT 'Micro-batch of the query',
  model_version INT NOT NULL COMMENT 'Version number that scored it',
  events BIGINT NOT NULL COMMENT 'Events that came in',
  out_of_order BIGINT NOT NULL COMMENT 'Of them older than one before, and taken',
  duplicates BIGINT NOT NULL COMMENT 'Of them copies, dropped',
  late BIGINT NOT NULL COMMENT 'Of them older than the watermark, kept in late_events',
  malformed BIGINT NOT NULL COMMENT 'Of them kept in raw_rejects',
  scored BIGINT NOT NULL COMMENT 'Predictions added',
  watermark TIMESTAMP COMMENT 'Oldest watermark of the sources after it, UTC',
  state_rows BIGINT NOT NULL COMMENT 'Events remembered after it',
  input_rows_per_second DOUBLE NOT NULL COMMENT 'Events per second of its processing',
  processing_seconds DOUBLE NOT NULL COMMENT 'How long it took, seconds',
  lag_seconds DOUBLE NOT NULL COMMENT 'From the sending of its oldest event to its end, seconds',
  recorded_at TIMESTAMP NOT NULL COMMENT 'When it ended, UTC'
  , CONSTRAINT stream_progress_pk PRIMARY KEY (query_id, batch_id) -- Unity Catalog only
) USING delta
COMMENT 'How each micro-batch went';
