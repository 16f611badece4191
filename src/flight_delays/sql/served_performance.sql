CREATE OR REPLACE VIEW {schema}.served_performance
COMMENT 'What callers got from each version, by day: how an A/B test is followed'
AS WITH latencies AS (
  SELECT
    days.model_name,
    days.model_version,
    days.day,
    avg(answers.response_time_ms) AS mean_latency_ms_7_days,
    percentile(answers.response_time_ms, 0.95) AS p95_latency_ms_7_days
  FROM {schema}.performance AS days
  JOIN {schema}.predictions AS answers
    ON answers.model_name = days.model_name
    AND answers.model_version = days.model_version
    AND answers.source = 'serving'
    AND answers.scored_date BETWEEN date_sub(days.day, 6) AND days.day
  WHERE days.source = 'serving' AND days.dimension = 'all'
  GROUP BY days.model_name, days.model_version, days.day
)
SELECT
  daily.model_name,
  daily.model_version,
  daily.day,
  daily.complete,
  daily.answers AS requests,
  daily.labelled,
  daily.coverage,
  by_day.metrics['accuracy'] AS accuracy,
  by_day.metrics['mae'] AS mean_absolute_error,
  daily.loss,
  daily.loss_28_days,
  daily.loss_28_days_low,
  daily.loss_28_days_high,
  daily.confidence,
  latencies.mean_latency_ms_7_days,
  latencies.p95_latency_ms_7_days
FROM {schema}.daily_performance AS daily
JOIN {schema}.performance AS by_day
  ON by_day.model_name = daily.model_name
  AND by_day.model_version = daily.model_version
  AND by_day.source = daily.source
  AND by_day.day = daily.day
  AND by_day.dimension = 'all'
LEFT JOIN latencies
  ON latencies.model_name = daily.model_name
  AND latencies.model_version = daily.model_version
  AND latencies.day = daily.day
WHERE daily.source = 'serving';
