"""The right answers of an ensemble of several outputs, and the parts of its spec."""

import numpy as np

from tests.deployments.support.known_answers import known_answers

ROWS = np.random.default_rng(8).normal(size=(40, 2)).astype(np.float32)
MOODS, TOPICS = ["sad", "meh", "glad"], ["art", "sport", "war"]


def known(shift, rows=ROWS):
    return known_answers(rows, shift)


def member(factory, **config):
    return {"model": f"known:{factory}", "config": config, "inputs": ["x"], "output": "probabilities"}


def fusion(*members, **fields):
    return {"rule": "mean", "members": list(members), "deadline_s": 5.0, **fields}


def values(columns):
    return {"model": "several:columns", "config": {"columns": columns}, "inputs": ["x"], "output": "values"}


SHIFTS = {"a": 1, "b": -2, "late": 3, "picky": 2, "number": 0}
WEIGHTS = {"mood": {"a": 0.25, "b": 0.75}}


def expected(output, said, rows=ROWS):
    """The fusion of exactly the members that the answer names."""
    names = said["members_used"].split(",")
    weights = WEIGHTS.get(output, dict.fromkeys(names, 1.0))
    return sum(weights[n] * known(SHIFTS[n], rows) for n in names) / sum(weights[n] for n in names)
