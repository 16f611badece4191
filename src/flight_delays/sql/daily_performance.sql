CREATE OR REPLACE VIEW {schema}.daily_performance
COMMENT 'How good each version was, by day; over 28 days with a 95 % interval from whole days, of at least 14 complete ones'
AS WITH sums AS (
  -- A ratio of sums over days; its variance is that of the residuals of whole days.
  SELECT
    *,
    count(w) OVER days AS n,
    sum(w) OVER days AS sum_w,
    sum(w * loss) OVER days AS sum_wl,
    sum(w * w) OVER days AS sum_ww,
    sum(w * w * loss) OVER days AS sum_wwl,
    sum(w * w * loss * loss) OVER days AS sum_wwll
  FROM (
    SELECT *, CASE WHEN complete AND labelled > 0 THEN labelled END AS w
    FROM {schema}.performance WHERE dimension = 'all'
  )
  WINDOW days AS (
    PARTITION BY model_name, model_version, source ORDER BY day
    RANGE BETWEEN INTERVAL 27 DAYS PRECEDING AND CURRENT ROW
  )
), intervals AS (
  SELECT
    *,
    sum_wl / sum_w AS mean,
    -- Quantile of Student's t with n - 1 degrees of freedom, to 0.01; none of fewer than 14 days.
    CASE WHEN n >= 14 THEN (1.96 + 2.37 / nullif(n - 1, 0) + 2.82 / nullif((n - 1) * (n - 1), 0)) * sqrt(
      n / nullif(n - 1, 0) * greatest(0, sum_wwll - 2 * sum_wl / sum_w * sum_wwl + pow(sum_wl / sum_w, 2) * sum_ww)
    ) / sum_w END AS half
  FROM sums
)
SELECT
  model_name,
  model_version,
  source,
  day,
  complete,
  rows,
  labelled,
  CASE WHEN rows > 0 THEN labelled / rows END AS coverage,
  loss,
  calibration,
  confidence,
  answers,
  mean_latency_ms,
  p95_latency_ms,
  mean AS loss_28_days,
  mean - half AS loss_28_days_low,
  mean + half AS loss_28_days_high,
  as_of
FROM intervals;
