"""Specs as text: YAML, JSON and TOML, with scalars as they are written where the spec wants text."""
