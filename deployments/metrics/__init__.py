"""What a fusion replica counts, and how Prometheus reads it."""
