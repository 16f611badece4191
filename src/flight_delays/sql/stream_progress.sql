CREATE OR REPLACE VIEW {schema}.stream_progress
COMMENT 'How each micro-batch went: events by fate, predictions, watermark, and the lag of its oldest event in seconds'
AS WITH counted AS (
  SELECT
    query_id,
    batch_id,
    count(*) AS events,
    count_if(fate = 'out_of_order') AS out_of_order,
    count_if(fate = 'duplicate') AS duplicates,
    count_if(fate = 'late') AS late,
    count_if(fate = 'malformed') AS malformed,
    min(sent_at) AS sent_at
  FROM {schema}.stream_events GROUP BY ALL
), scored AS (
  SELECT run_id, count(*) AS scored FROM {schema}.predictions WHERE source = 'stream' GROUP BY ALL
)
SELECT
  counted.query_id,
  counted.batch_id,
  model_version,
  events,
  out_of_order,
  duplicates,
  late,
  malformed,
  coalesce(scored.scored, 0) AS scored,
  array_min(map_values(newest)) - make_dt_interval(0, 0, 0, watermark_seconds) AS watermark,
  CAST(recorded_at AS DOUBLE) - CAST(sent_at AS DOUBLE) AS lag_seconds,
  recorded_at
FROM counted
JOIN {schema}.runs ON runs.source = 'stream' AND runs.query_id = counted.query_id AND runs.batch_id = counted.batch_id
LEFT JOIN scored ON scored.run_id = runs.run_id;
