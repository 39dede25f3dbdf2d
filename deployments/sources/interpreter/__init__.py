"""Members whose libraries clash with the others': their models run in an interpreter of another environment."""
