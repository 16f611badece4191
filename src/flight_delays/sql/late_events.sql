CREATE OR REPLACE VIEW {schema}.late_events
COMMENT 'Events older than the watermark: neither landed nor scored by the stream'
AS SELECT * FROM {schema}.stream_events WHERE fate = 'late';
