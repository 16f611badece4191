CREATE TABLE IF NOT EXISTS {schema}.stream_state (
  query_id STRING NOT NULL COMMENT 'Streaming query',
  batch_id BIGINT NOT NULL COMMENT 'Micro-batch of the query',
  source STRING NOT NULL COMMENT 'Table that the event came from',
  event_id STRING COMMENT 'Of the event',
  kind STRING COMMENT 'Kind of event, as the use case names them',
  event_time TIMESTAMP COMMENT 'When it was known, UTC',
  sent_at TIMESTAMP COMMENT 'When it was sent, UTC',
  sequence BIGINT COMMENT 'Place in the order of sending',
  fate STRING NOT NULL COMMENT 'on_time, out_of_order, duplicate, late or malformed',
  watermark TIMESTAMP COMMENT 'That of its source when the event came, UTC; null at first',
  reasons ARRAY<STRING> NOT NULL COMMENT 'Why it is malformed',
  body STRING NOT NULL COMMENT 'The event as delivered, JSON'
) USING delta
PARTITIONED BY (query_id)
COMMENT 'Events that the stream still remembers, with what became of each; cleared behind the watermark';
