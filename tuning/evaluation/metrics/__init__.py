"""Metrics by name, as numbers of each row whose mean they are made of."""
