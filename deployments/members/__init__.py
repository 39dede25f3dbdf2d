"""One model in its own process: loaded, run batch by batch, its output aligned with the ensemble's classes."""
