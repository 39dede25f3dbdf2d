"""An ensemble whose answers are known: members that name the request, so that every subset at every revision is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.deployments.support.factories import oracle

MEMBERS = ("a", "b", "c")
WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}
OTHER_WEIGHTS = {"a": 0.1, "b": 0.15, "c": 0.75}
FOLDER = "tests/deployments/support/factories"  # from the checkout's root
DEADLINE_S = 2.0

Weights = Mapping[str, float]


def ensemble(
    name: str,
    weights: Weights = WEIGHTS,
    replicas: int = 1,
    deadline_s: float = DEADLINE_S,
    config: Any = None,
    width: int = 3,
) -> dict[str, Any]:
    """As a spec file holds it.

    Args:
        replicas: of each member.
        config: of the members, beside their number; another one is another member.
        width: numbers of a row, of which members look at the first three.
    """
    share = {"num_cpus": 0.1}
    members = {
        member: {
            "model": "oracle:numbered", "config": {"member": MEMBERS.index(member), **(config or {})},
            "inputs": ["row"], "output": "probabilities", "resources": share,
            "replicas": {"min": replicas, "max": replicas},
        }
        for member in weights
    }  # fmt: skip
    return {
        "name": name,
        "inputs": {"row": {"datatype": "INT64", "shape": [width]}},
        "classes": ["one", "two", "three", "rest"],
        "members": members,
        "fusion": {"rule": "weighted_mean", "weights": dict(weights), "deadline_s": deadline_s},
        "serving": {"resources": share},
    }


def fused(numbers: NDArray[np.int64], used: Collection[str], weights: Weights) -> NDArray[np.float64]:
    """(B, 4): the weighted mean of exactly the members ``used``, from its definition."""
    return sum((part(numbers, member, used, weights) for member in used), start=np.zeros((len(numbers), 4)))


def part(numbers: NDArray[np.int64], member: str, used: Collection[str], weights: Weights) -> NDArray[np.float64]:
    """(B, 4): what one member adds to ``fused``."""
    share = weights[member] / sum(weights[name] for name in used)
    return share * oracle.shares(numbers, MEMBERS.index(member)).astype(np.float64)
