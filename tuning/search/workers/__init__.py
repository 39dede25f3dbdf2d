"""Ray workers that run the trials of a search, and the queue they take them from."""
