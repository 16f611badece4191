CREATE OR REPLACE VIEW {schema}.open_incidents
COMMENT 'Incidents that are not resolved, with their newest event; acknowledged: a person looks after it'
AS WITH newest AS (
  SELECT
    incident_id,
    max_by(event, number) AS event,
    min(recorded_at) AS opened_at,
    max(recorded_at) AS changed_at,
    bool_or(event = 'ACKNOWLEDGED') AS acknowledged
  FROM {schema}.incidents GROUP BY incident_id
)
SELECT
  incidents.model_name,
  incidents.model_version,
  incidents.family,
  incidents.since,
  incidents.day,
  newest.acknowledged,
  array_join(incidents.subjects, ', ') AS affected,
  incidents.reason,
  newest.opened_at,
  newest.changed_at,
  incidents.incident_id
FROM newest
-- What is said of it is what its alarms said last, whatever a person added.
JOIN (
  SELECT *, row_number() OVER (PARTITION BY incident_id ORDER BY number DESC) AS nth
  FROM {schema}.incidents WHERE event IN ('OPENED', 'GREW')
) AS incidents ON incidents.incident_id = newest.incident_id AND incidents.nth = 1
WHERE newest.event <> 'RESOLVED';
