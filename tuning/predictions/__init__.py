"""Members run once over labelled rows, and their predictions kept."""
