"""Rows of members with known skills, as drift looks at them."""

import numpy as np

from quorate.deployments.learning.drift.rows import Rows, Subject

MEMBERS, CLASSES = ("a", "b", "c", "d"), ("red", "green", "blue")
SUBJECT = Subject("classification", MEMBERS, CLASSES)


def said(random, count, members=4, shares=(0.5, 0.3, 0.2), skill=2.5):
    """(M, N, C) probabilities of members alike in skill, and (N,) what is true."""
    truth = random.choice(len(shares), size=count, p=shares)
    scores = random.normal(size=(members, count, len(shares))) + 0.7 * random.normal(size=(1, count, len(shares)))
    scores[:, np.arange(count), truth] += skill
    probs = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    return probs.astype(np.float32), truth


def as_rows(probs, truth=None, start=0, states=None):
    """Rows that are answered by the mean, each an answer, one a second from ``start`` on."""
    count = probs.shape[1]
    states = np.zeros(probs.shape[:2], np.uint8) if states is None else states
    times = start + np.arange(count, dtype=float)
    return Rows(probs, states, probs.mean(axis=0), np.ones(count, np.bool_), np.arange(count), times, truth)
