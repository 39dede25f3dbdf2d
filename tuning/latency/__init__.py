"""How long members and ensembles take: measured, and predicted."""
