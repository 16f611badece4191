CREATE TABLE IF NOT EXISTS {schema}.stream_events (
  query_id STRING NOT NULL COMMENT 'Streaming query',
  batch_id BIGINT NOT NULL COMMENT 'Micro-batch of the query',
  source STRING NOT NULL COMMENT 'Table, or topic and partition, that the event came from',
  event_id STRING COMMENT 'Of the event',
  kind STRING COMMENT 'Kind of event, as the use case names them',
  event_time TIMESTAMP COMMENT 'When it was known, UTC',
  sent_at TIMESTAMP COMMENT 'When it was sent, UTC',
  sequence BIGINT COMMENT 'Place in the order of sending',
  fate STRING NOT NULL COMMENT 'on_time, out_of_order, duplicate, late or malformed',
  watermark TIMESTAMP COMMENT 'That of its source when the event came, UTC; null at first',
  reasons ARRAY<STRING> NOT NULL COMMENT 'Why it is malformed',
  message STRING COMMENT 'The event as delivered, where that was a text; a column per raw table has what it says'
) USING delta
COMMENT 'Every event of the stream, with its fate; rows are only added, and deleted when no feature can need them'
TBLPROPERTIES (delta.checkpointInterval = 1000, delta.dataSkippingNumIndexedCols = 4);
