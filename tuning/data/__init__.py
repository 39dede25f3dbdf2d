"""Labelled rows from files and from the bundled digits."""
