"""One file per job task: load, decide, save."""
