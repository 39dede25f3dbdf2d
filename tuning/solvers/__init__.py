"""Weights solved over stored predictions, one method a file."""
