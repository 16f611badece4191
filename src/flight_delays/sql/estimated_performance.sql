CREATE TABLE IF NOT EXISTS {schema}.estimated_performance (
  model_name STRING NOT NULL COMMENT 'Registered model',
  model_version INT NOT NULL COMMENT 'Version number that made the forecasts',
  source STRING NOT NULL COMMENT 'batch, stream or serving; shadow: by a challenger beside the champion',
  day DATE NOT NULL COMMENT 'Day on which the outcomes count, in the zone of the use case',
  rows BIGINT NOT NULL COMMENT 'Entities, each once, as in performance',
  expected_loss DOUBLE COMMENT 'Mean loss if forecasts turn out as those of the folds of the training did; null if the version kept none',
  estimated_loss DOUBLE COMMENT 'Mean loss if they turn out as those of the days before did whose labels were known by the end of the day; null if too few were',
  labelled_days INT NOT NULL COMMENT 'How many such days there were',
  as_of TIMESTAMP NOT NULL COMMENT 'As-of time of the run that estimated, UTC'
  , CONSTRAINT estimated_performance_pk PRIMARY KEY (model_name, model_version, source, day) -- Unity Catalog only
) USING delta
COMMENT 'How good the forecasts of each day would turn out, said before their labels were known; what was said once stays';
