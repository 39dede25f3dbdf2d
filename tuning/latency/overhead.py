"""What serving adds to the time of the members: measured with members that do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.wire.datatypes import datatype_of
from quorate.tuning.latency.curves import Overhead
from quorate.tuning.latency.local_serving import seconds_of_requests

_REQUESTS = 150
_MANY = 4


def nothing(classes: int) -> Callable[..., NDArray[np.float32]]:
    """A model that computes nothing: zeros (B, classes)."""
    return lambda *read: np.zeros((len(read[0]), classes), dtype=np.float32)


def measure_overhead(inputs: Mapping[str, NDArray[Any]], classes: int) -> Overhead:
    """Fit the two numbers to the 95th percentile over one member, several side by side, and one behind another.

    Args:
        inputs: request rows; their size travels as it would.
        classes: of an answer.
    """
    one, many, chain = (
        float(np.percentile(seconds_of_requests(spec, Path.cwd(), inputs, _REQUESTS), 95))
        for spec in (_idle(inputs, classes, 1), _idle(inputs, classes, _MANY), _idle(inputs, classes, 1, chained=True))
    )
    steps_and_members = np.array([[1, 1], [1, _MANY], [2, 2]])
    step_s, member_s = np.linalg.lstsq(steps_and_members, np.array([one, many, chain]), rcond=None)[0]
    return Overhead(max(0.0, float(step_s)), max(0.0, float(member_s)))


def _idle(inputs: Mapping[str, NDArray[Any]], classes: int, members: int, chained: bool = False) -> EnsembleSpec:
    """An ensemble of members that do nothing, or one of them that reads another."""
    member = {"model": f"{__name__}:nothing", "config": {"classes": classes}, "inputs": list(inputs)}
    named: dict[str, Any] = {f"idle-{number}": member for number in range(members)}
    asked = list(named)
    if chained:
        named["behind"] = {**member, "inputs": [*inputs, "idle-0"]}
        asked = ["behind"]
    tensors = {name: {"datatype": datatype_of(a), "shape": list(a.shape[1:])} for name, a in inputs.items()}
    names = [str(number) for number in range(classes)]
    fusion = {"rule": "mean", "members": asked, "deadline_s": 10.0}
    return parse_spec({"name": "idle", "inputs": tensors, "classes": names, "members": named, "fusion": fusion})
