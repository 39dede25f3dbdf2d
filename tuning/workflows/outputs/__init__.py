"""Several outputs of one ensemble: each is tuned, trained or compressed by itself, and all are put into one spec."""
