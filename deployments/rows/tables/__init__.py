"""A file for each kind of source: what it gives is a ``Table``, columns by name, some rows at a time."""
