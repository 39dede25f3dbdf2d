"""Models of tables: each library's own format, its features bound to the member's inputs by name."""
