"""Labelled rows of members whose skill changes as time goes by, and the weights that would have been known at each."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Stream:
    """Rows in the order in which they were answered.

    Attributes:
        probs: (N, M, C), truth (N,), present (N, M).
        came: (N,) after how many answers each label came.
    """

    probs: np.ndarray
    truth: np.ndarray
    present: np.ndarray
    came: np.ndarray

    @property
    def cells(self):
        """(N, M) of what was true."""
        return self.probs[np.arange(len(self.truth)), :, self.truth]

    def in_order_of_labels(self):
        """Places of rows, and how many labels had come when each of those rows was answered."""
        order = np.argsort(self.came, kind="stable")
        return order, np.searchsorted(self.came[order], order, side="right")


def stream(random, skills, classes=5, delay=1, missing=0.0):
    """Rows of members with (N, M) skills, labels that come up to ``delay`` answers late."""
    rows, members = skills.shape
    truth = random.integers(classes, size=rows)
    logits = random.normal(size=(rows, members, classes)) + 0.5 * random.normal(size=(rows, 1, classes))
    logits[np.arange(rows), :, truth] += skills
    shares = np.exp(logits - logits.max(axis=2, keepdims=True))
    present = random.random((rows, members)) >= missing
    present[np.arange(rows), random.integers(members, size=rows)] = True
    if missing:
        present[rows // 4 : rows // 3, 0] = False
        present[~present.any(axis=1)] = True
    came = np.arange(rows) + random.integers(1, delay + 1, size=rows)
    return Stream(shares / shares.sum(axis=2, keepdims=True), truth, present, came)


def skills(random, rows, members=10, drift="none"):
    """(N, M): the same all along, others from the middle on, or others little by little."""
    first, last = random.uniform(0, 3, size=(2, members))
    at = np.arange(rows)[:, None] / rows
    share = {"none": 0.0 * at, "abrupt": (at >= 0.5) * 1.0, "slow": at}[drift]
    return (1 - share) * first + share * last
