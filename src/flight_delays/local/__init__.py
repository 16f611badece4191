"""The laptop: runs the bundle's own jobs. Not in the wheel."""
