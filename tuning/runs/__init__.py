"""A run's folder: the resulting spec with all it names, and its probe rows."""
