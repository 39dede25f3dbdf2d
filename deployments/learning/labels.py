"""What a label may say: by the spec's task, with classes called as clients see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.errors import RequestError
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.wire.feedback import GivenLabel

MAX_PARTS = 100_000


class Label(NamedTuple):
    """A label that fits its task.

    Attributes:
        classes: the one that is true, all that are, or the tag of each token; empty of values.
        values: the true value, or values; empty of classes.
    """

    classes: tuple[str, ...] = ()
    values: tuple[float, ...] = ()


def read_label(spec: EnsembleSpec, given: GivenLabel) -> Label:
    """What a label says.

    Raises:
        RequestError: it is none of the output's task, or there is no such output.
    """
    if spec.outputs:
        if given.output not in spec.outputs:
            raise RequestError(f"there are several outputs; name one of {', '.join(spec.outputs)}")
        spec = spec.view(given.output)
    elif given.output not in ("", spec.output_name):
        raise RequestError(f"there is one output, {spec.output_name}; leave output out")
    if not spec.classes:
        return Label(values=_values(given.label))
    several = spec.task == "multilabel" or spec.of_tokens
    parts = given.label if isinstance(given.label, list) else [given.label]
    if several and not isinstance(given.label, list):
        raise RequestError("give the list of its classes")
    if not several and len(parts) != 1:
        raise RequestError(f"{len(parts)} classes for one row; give the name of one")
    named = tuple(_class(part, spec.classes) for part in parts[:MAX_PARTS])
    return Label(tuple(sorted(set(named))) if spec.task == "multilabel" else named)


def true_arrays(classes: Sequence[str], task: str, labels: Sequence[Label]) -> NDArray[Any]:
    """(N,) the class of each row by number; (N, C) of several labels a row 0 or 1; (N,) or (N, K) values."""
    if not classes:
        values = np.array([label.values for label in labels], np.float64)
        return values[:, 0] if values.shape[1] == 1 else values
    place = {name: at for at, name in enumerate(classes)}
    if task != "multilabel":
        return np.array([place[label.classes[0]] for label in labels], np.int64)
    held = np.zeros((len(labels), len(place)))
    for at, label in enumerate(labels):
        held[at, [place[name] for name in label.classes]] = 1.0
    return held


def _class(part: Any, classes: Sequence[str]) -> str:
    text = str(part) if type(part) is int else part
    if not isinstance(text, str) or text not in classes:
        known = f"{', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
        raise RequestError(f"{part!r:.60} is no class; there are {known}")
    return text


def _values(label: Any) -> tuple[float, ...]:
    parts = label if isinstance(label, list) else [label]
    if not parts or not all(type(part) in (int, float) and math.isfinite(part) for part in parts[:MAX_PARTS]):
        raise RequestError(f"{label!r:.60} is no finite number; give the true value")
    return tuple(map(float, parts[:MAX_PARTS]))
