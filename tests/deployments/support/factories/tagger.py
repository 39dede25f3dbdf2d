"""Taggers whose answers are known: scores of five classes for each token, computed from its row alone."""

import numpy as np

CLASSES = ["O", "B-person", "I-person", "B-place", "I-place"]


def probabilities(x, seed):
    """(B, T, 5) from (B, T, 3); each token's depends on the mean of its row, padding and all."""
    weights = np.random.default_rng(seed).normal(0, 2, (3, 5))
    scores = np.asarray((x + x.mean(axis=1, keepdims=True)) @ weights, dtype=np.float32)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def known(seed, order=(0, 1, 2, 3, 4), extra=0):
    """Raises when a row starts with 13, gives NaN at its last token when it starts with 14; so many tokens too many."""

    def predict(x):
        if (x[:, 0, 0] == 13).any():
            raise ValueError("13 is not for me")
        found = probabilities(x, seed)[..., list(order)]
        found[x[:, 0, 0] == 14, -1, 0] = np.nan
        return np.concatenate([found, found[:, :extra]], axis=1)

    return predict


def masked(seed):
    """Reads lengths, looks at nothing behind them, and says NaN there."""

    def predict(x, lengths):
        found = np.full((*x.shape[:2], 5), np.nan, np.float32)
        for row, length in enumerate(lengths.ravel()):
            if length:
                found[row, :length] = probabilities(x[row : row + 1, :length], seed)[0]
        return found

    return predict


def steady(seed):
    """Answers every row."""
    return lambda x: probabilities(x, seed)


def twice():
    """Features of each token."""
    return lambda x: 2 * x
