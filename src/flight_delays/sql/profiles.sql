CREATE TABLE IF NOT EXISTS {schema}.profiles (
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number whose training rows define the bins',
  day DATE NOT NULL COMMENT 'Day on which the rows count, in the zone of the use case',
  column_name STRING NOT NULL COMMENT 'A column that the model takes, or forecast or label',
  rows BIGINT NOT NULL COMMENT 'Rows of the day',
  counts ARRAY<BIGINT> NOT NULL COMMENT 'Rows in each bin, as file bins.json of the version has them; the last bin holds null',
  lowest DOUBLE COMMENT 'Lowest value; null of text, and without a value',
  mean DOUBLE COMMENT 'Mean of the values; null of text, and without a value',
  highest DOUBLE COMMENT 'Highest value; null of text, and without a value',
  digest BIGINT NOT NULL COMMENT 'Of the rows behind the day: while it is the same, nothing is counted again',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the run that counted, UTC'
  , CONSTRAINT profiles_pk PRIMARY KEY (model_name, model_version, day, column_name) -- Unity Catalog only
) USING delta
COMMENT 'How the values of each column were spread over the rows of each day: counts that add up over days';
