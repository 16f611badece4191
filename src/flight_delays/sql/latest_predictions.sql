CREATE OR REPLACE VIEW {schema}.latest_predictions
COMMENT 'The newest prediction of each entity, whoever made it'
AS SELECT * EXCEPT (nth) FROM (
  SELECT *, row_number() OVER (
    PARTITION BY entity_id ORDER BY scored_at DESC, prediction_ts DESC, model_version DESC, prediction_id DESC
  ) AS nth
  FROM {schema}.predictions
) WHERE nth = 1;
