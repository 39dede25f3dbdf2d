"""A sweep on the digits with a budget of seconds, and what is compared of two of them."""

from typing import Any

from quorate.tuning import SearchSpace, Splits
from quorate.tuning.search.space import Family

SPACE = SearchSpace(
    name="digits",
    families={"mlp": Family(width=(8, 32), depth=(1, 1)), "cnn": Family(width=(4, 6), depth=(1, 1))},
    epochs=3,
    topologies=("parallel", "stack"),
)
# Measured times differ from run to run; with these objectives the same seed gives the same run.
BUDGET: dict[str, Any] = {
    "trials": 12,
    "member_trials": 6,
    "parallel": 3,
    "objectives": ("log_loss", "memory_bytes"),
    "workers": 2,
    "check": 0,
}

# In the environment of the sweep that all look at.
SECRET = "canary-5f1e77c0ffee"


def small(splits):
    return Splits(splits.train.rows(slice(0, 400)), splits.validation, splits.test)


def outcome(result):
    """All that must be the same when nothing but the machine differs: measured times do."""
    kept = ("log_loss", "error_rate", "memory_bytes")
    trials = (*result.members, *result.structures)
    return [(t.number, dict(t.params), {n: t.values[n] for n in kept if n in t.values}, t.failure) for t in trials]


def journal(folder):
    return {path: path.stat().st_mtime_ns for path in sorted((folder / "trials").glob("*/*.json"))}
