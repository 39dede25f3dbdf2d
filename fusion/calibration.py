"""Probabilities that mean what they say: temperature, per-class bias and vector scaling, fitted by log-loss.

Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 4.2. A calibration applies
to any leading dimensions: to members' outputs before pooling, or to the fused rows after it.
"""

# N rows, C classes

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from quorate.fusion.errors import FusionError, RuleOptionError

# log(0): a class with no probability keeps next to none, and the fit stays finite.
_FLOOR = 1e-30

KINDS = ("temperature", "bias", "vector")


@dataclass(frozen=True)
class Calibration:
    """softmax(scale * log p + bias).

    Attributes:
        scale: one number (1 / temperature), or C of them; above 0 for one number.
        bias: C numbers, or none.
    """

    scale: tuple[float, ...] = (1.0,)
    bias: tuple[float, ...] = ()

    def apply(self, probabilities: Tensor) -> Tensor:
        """(..., C) to calibrated (..., C) float32; a row that is not finite stays so, and rules leave it out."""
        logits = torch.log(probabilities.float().clamp(min=_FLOOR))
        logits = logits * torch.tensor(self.scale, device=logits.device)
        if self.bias:
            logits = logits + torch.tensor(self.bias, device=logits.device)
        return logits.softmax(dim=-1)

    def to_spec(self) -> dict[str, Any]:
        return {"scale": list(self.scale), "bias": list(self.bias)}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Calibration:
        return cls(tuple(spec["scale"]), tuple(spec["bias"]))


def fit_calibration(kind: str, probabilities: NDArray[Any], labels: NDArray[Any]) -> Calibration:
    """The calibration of least log-loss on held-out rows; a convex problem, solved by L-BFGS.

    Args:
        kind: ``temperature`` (one number), ``bias`` (C numbers added to log p) or ``vector`` (C scales and C biases).
        probabilities: (N, C) of a member, or of a fusion.
        labels: (N,) class indices.

    Raises:
        RuleOptionError: there is no such kind.
        FusionError: the solver did not converge.
    """
    if kind not in KINDS:
        raise RuleOptionError("calibration", "kind", kind, f"use {' or '.join(KINDS)}")
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _FLOOR))
    num_classes = logs.shape[1]
    scales = {"temperature": 1, "bias": 0, "vector": num_classes}[kind]
    start = np.concatenate([np.ones(scales), np.zeros(0 if kind == "temperature" else num_classes)])
    truth = np.eye(num_classes)[labels]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale = parameters[:scales] if scales else np.ones(1)
        logits = scale * logs + (parameters[scales:] if kind != "temperature" else 0.0)
        log_p = log_softmax(logits, axis=-1)
        slope = (np.exp(log_p) - truth) / len(logs)
        by_scale = (slope * logs).sum(axis=0)
        gradient = {"temperature": [by_scale.sum()], "bias": [], "vector": by_scale}[kind]
        by_bias = [] if kind == "temperature" else slope.sum(axis=0)
        return float(-(truth * log_p).sum() / len(logs)), np.concatenate([gradient, by_bias])

    # A temperature is above 0; with scales per class the sign is the data's to choose.
    bounds = [(1e-3, 1e3)] if kind == "temperature" else None
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000})
    if not found.success:
        raise FusionError(
            f"calibration by {kind} stopped: {found.message}; give more rows, or a kind with fewer numbers"
        )
    scale = tuple(found.x[:scales].tolist()) or (1.0,)
    bias = found.x[scales:] if kind != "temperature" else np.zeros(0)
    # Only differences count: without their mean, biases of two fits can be compared.
    return Calibration(scale, tuple((bias - bias.mean()).tolist()) if bias.size else ())
