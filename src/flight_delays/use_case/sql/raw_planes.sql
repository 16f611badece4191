CREATE TABLE IF NOT EXISTS {schema}.raw_planes (
  tailnum STRING NOT NULL COMMENT 'Aircraft',
  year_built INT COMMENT 'Year of manufacture',
  type STRING COMMENT 'Kind of aircraft',
  manufacturer STRING COMMENT 'Manufacturer',
  model STRING COMMENT 'Model',
  engines INT COMMENT 'Number of engines',
  seats INT COMMENT 'Number of seats',
  engine STRING COMMENT 'Kind of engine',
  known_at TIMESTAMP NOT NULL COMMENT 'When the entry was known, UTC'
  , CONSTRAINT raw_planes_pk PRIMARY KEY (tailnum, known_at) -- Unity Catalog only
) USING delta
COMMENT 'Registered aircraft';
