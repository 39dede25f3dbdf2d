"""Predictions of three members that are worth more together than apart, whoever of them is missing."""

import numpy as np


def hedged(rows, seed):
    """Members b and c know one kind of rows each and mislead on the other's: together they hedge."""
    random = np.random.default_rng(seed)
    labels, kinds = random.integers(0, 2, rows), random.integers(0, 3, rows)
    right = np.array([[0.45, 0.45, 0.85], [0.9, 0.2, 0.6], [0.2, 0.9, 0.6]])[:, kinds]
    probs = np.stack([1 - right, right], axis=-1)
    probs[:, labels == 0] = probs[:, labels == 0, ::-1]
    return probs, labels
