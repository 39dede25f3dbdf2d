"""A load on a running ensemble: requests of random or given rows, connections that send them, and what came of it."""
