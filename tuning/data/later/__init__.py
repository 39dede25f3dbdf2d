"""Rows that come after others: what they are called, what is known of them, and whose answers count."""
