"""Measures of predictions, of diversity, of significance, and of each member's worth."""
