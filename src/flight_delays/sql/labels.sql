CREATE TABLE IF NOT EXISTS {schema}.labels (
  entity_id STRING NOT NULL COMMENT 'What the outcome is of',
  day DATE NOT NULL COMMENT 'Day on which it counts, in the zone of the use case',
  label DOUBLE NOT NULL COMMENT 'The outcome: 1 or 0 of a classification, else the value',
  known_at TIMESTAMP NOT NULL COMMENT 'When it was known, UTC'
  , CONSTRAINT labels_pk PRIMARY KEY (entity_id, known_at) -- Unity Catalog only
) USING delta
COMMENT 'How it ended; without an outcome there is no row, and a corrected one is a row more';
