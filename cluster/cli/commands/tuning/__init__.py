"""What fits, searches and judges: tune, sweep, train, compress."""
