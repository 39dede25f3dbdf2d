"""An ensemble of three of ``factories/drifting.py``, and rows for it."""

from typing import Any

import numpy as np

from tests.deployments.support.factories.drifting import CLASSES

MEMBERS = {"first": 1, "second": 2, "third": 3}


def drifting_spec(name, drift, member=None, **fields) -> dict[str, Any]:
    given = {"inputs": ["x"], "output": "probabilities", **(member or {})}
    members = {one: {"model": "drifting:drifting", "config": {"number": n}, **given} for one, n in MEMBERS.items()}
    return {
        "name": name, "inputs": {"x": {"datatype": "FP32", "shape": [4]}}, "classes": list(CLASSES),
        "members": members, "fusion": {"rule": "mean", "deadline_s": 5.0}, "drift": drift, **fields,
    }  # fmt: skip


def asked_rows(random, count, broken=0):
    """(count, 4): rows of sure answers, and who is broken meanwhile."""
    scores = random.normal(0, 2, size=(count, 3))
    return np.concatenate([scores, np.full((count, 1), broken)], axis=1).astype(np.float32)
