"""Rules over members' outputs that are trained on stored predictions."""
