"""Arithmetic that rules share."""
