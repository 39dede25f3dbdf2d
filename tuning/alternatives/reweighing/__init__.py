"""The incumbent's own rule with other weights: which numbers it takes, what they lose on rows, and the alternative."""
