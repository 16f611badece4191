CREATE TABLE IF NOT EXISTS {schema}.raw_rejects (
  reject_id STRING NOT NULL COMMENT 'Digest of table, row and its number among equal rows',
  table_name STRING NOT NULL COMMENT 'Raw table that the row was meant for',
  source_row STRING NOT NULL COMMENT 'The row as delivered, JSON',
  reasons ARRAY<STRING> NOT NULL COMMENT 'Why it was not landed'
  , CONSTRAINT raw_rejects_pk PRIMARY KEY (reject_id) -- Unity Catalog only
) USING delta
COMMENT 'Delivered rows that were not landed, with the reasons';
