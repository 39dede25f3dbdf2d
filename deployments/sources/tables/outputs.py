"""What a table's model says, as the member's ``output`` asks for it."""

# B batch, K classes

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.request import LoadRequest

Array = NDArray[Any]


def both_classes(positive: Array) -> Array:
    """(B, 2) of the (B,) probability of the second class; more columns stay as they are."""
    if positive.ndim == 2 and positive.shape[1] > 1:
        return positive
    positive = positive.reshape(-1)
    return np.stack([1 - positive, positive], axis=1)


def as_asked(request: LoadRequest, probabilities: Array) -> Array:
    """Probabilities, or logits of which they are the softmax."""
    if request.spec.output != "logits":
        return probabilities
    logits: Array = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return logits


def sigmoid(margins: Array) -> Array:
    """1 / (1 + exp(-margin)), which does not overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -margins)))


def softmax(margins: Array) -> Array:
    """(B, K) whose rows sum to one."""
    shares = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def check_classifies(request: LoadRequest, classifies: bool, objective: str) -> None:
    """Refuse values where classes are asked for.

    Raises:
        MemberLoadError: the model predicts values, and the member's output is of classes.
    """
    if not classifies and request.spec.output in ("logits", "probabilities"):
        raise request.error(f"the model predicts values ({objective}), not classes", "write output: values")


def numbers(count: int) -> tuple[str, ...]:
    """Names of classes that a model only numbers."""
    return tuple(map(str, range(count)))
