"""Pure rules: joins in time, splits, metrics, gates. No I/O, no clock, no session."""
