CREATE TABLE IF NOT EXISTS {schema}.late_events (
  query_id STRING NOT NULL COMMENT 'Streaming query',
  batch_id BIGINT NOT NULL COMMENT 'Micro-batch of the query',
  source STRING NOT NULL COMMENT 'Table that the event came from',
  event_id STRING NOT NULL COMMENT 'Of the event',
  kind STRING NOT NULL COMMENT 'Kind of event, as the use case names them',
  event_time TIMESTAMP NOT NULL COMMENT 'When it was known, UTC',
  sequence BIGINT NOT NULL COMMENT 'Place in the order of sending',
  watermark TIMESTAMP NOT NULL COMMENT 'What the event was older than, UTC',
  source_row STRING NOT NULL COMMENT 'The event as delivered, JSON'
) USING delta
COMMENT 'Events older than the watermark: neither landed nor scored by the stream';
