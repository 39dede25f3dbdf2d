"""The parameters of an inference request: its deadline, its priority, what to explain, which members to ask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from quorate.deployments.engine.requests.request import DEFAULT_PRIORITY, PRIORITY_LEVELS
from quorate.deployments.errors import RequestError
from quorate.deployments.wire.inference import InferRequest, Scalar

_PER_SECOND = (("deadline_ms", 1e3), ("timeout", 1e6))


def read_deadline_s(request: InferRequest) -> float | None:
    """The soonest of the deadlines that the client gave."""
    if not request.parameters:
        return request.deadline_s
    deadlines = [] if request.deadline_s is None else [request.deadline_s]
    for key, per_second in _PER_SECOND:
        value = request.parameters.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise RequestError(f"parameter {key} is {value!r}; give a number >= 0")
        if value > 0:  # Triton reads a timeout of 0 as none
            deadlines.append(value / per_second)
    return min(deadlines, default=None)


def read_priority(parameters: Mapping[str, Scalar]) -> int:
    """As in Triton, 1 is the highest; 0, and what there is no level for, is the default."""
    value = parameters.get("priority", 0)
    if type(value) is not int or value < 0:
        raise RequestError(f"parameter priority is {value!r}; give 1 (highest) to {PRIORITY_LEVELS}, or 0")
    return value if 1 <= value <= PRIORITY_LEVELS else DEFAULT_PRIORITY


def read_explain(parameters: Mapping[str, Scalar]) -> bool:
    """Whether to give each member's output and contribution as well."""
    value = parameters.get("explain", False)
    if not isinstance(value, bool):
        raise RequestError(f"parameter explain is {value!r}; give true or false")
    return value


def read_members(parameters: Mapping[str, Scalar], fused: Sequence[str]) -> tuple[str, ...] | None:
    """The members to ask; None for all that are ``fused``."""
    asked = parameters.get("members")
    if asked is None:
        return None
    if not isinstance(asked, str):
        raise RequestError(f"parameter members is {asked!r}; give names with commas between them")
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if name not in fused:
            raise RequestError(f"parameter members names '{name}', which is not fused; choose from {', '.join(fused)}")
    return names
