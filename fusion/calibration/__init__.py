"""Probabilities that mean what they say, and decisions made of them."""
