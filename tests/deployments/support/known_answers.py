"""What the members of ``factories/known.py`` have to say, and ensembles of two of them."""

from typing import Any

import numpy as np


def known_answers(rows, shift):
    """(B, 3) of (B, 2) rows: the right answer, computed in float64 from its definition."""
    x = rows.astype(np.float64)
    scores = np.stack([x[:, 0] + shift, x[:, 1] - shift, x[:, 0] * x[:, 1]], axis=1)
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def weighted_answers(rows, weight):
    """The weighted mean of both members of ``two_known``."""
    return weight * known_answers(rows, 1) + (1 - weight) * known_answers(rows, -2)


def two_known(name, weight=0.5, **member) -> dict[str, Any]:
    """A weighted mean of ``a``, which has this weight, and ``b``."""
    members = {
        one: {
            "model": "known:known", "config": {"shift": shift}, "inputs": ["x"], "output": "probabilities", **member
        }
        for one, shift in (("a", 1), ("b", -2))
    }  # fmt: skip
    return {
        "name": name, "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": ["red", "green", "blue"],
        "members": members,
        "fusion": {"rule": "weighted_mean", "weights": {"a": weight, "b": 1 - weight}, "deadline_s": 5.0},
    }  # fmt: skip
