"""Which members share a process: measured when an ensemble is deployed, decided by that, and told in its plan."""
