"""Fusion token by token: taggers, and generators over one vocabulary."""
