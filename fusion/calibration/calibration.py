"""Probabilities that mean what they say: floor, temperature, per-class bias and vector scaling, fitted by log-loss.

Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 4.2. The floor is for members
that say exactly 0, as forests do: a share of each row is given to all classes alike. A calibration applies to any
leading dimensions: to members' outputs before pooling, or to the fused rows after it.
"""

# N rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

from quorate.fusion.base import Fused
from quorate.fusion.errors import FusionError, RuleOptionError

# log(0): a class with no probability keeps next to none, and the fit stays finite.
_FLOOR = 1e-30

KINDS = ("floor", "temperature", "bias", "vector")
# Exponents of ten between which a floor is looked for.
_LEAST_FLOOR, _MOST_FLOOR = -9.0, np.log10(0.5)


@dataclass(frozen=True)
class Calibration:
    """softmax(scale * log q + bias) with q = (1 - floor) p + floor / C.

    Attributes:
        scale: one number (1 / temperature), or C of them; above 0 for one number.
        bias: C numbers, or none.
        floor: the share of a row that all classes get alike, from 0 to below 1.
    """

    scale: tuple[float, ...] = (1.0,)
    bias: tuple[float, ...] = ()
    floor: float = 0.0

    def apply(self, probabilities: Tensor) -> Tensor:
        """(..., C) to calibrated (..., C) float32; a row that is not finite stays so, and rules leave it out."""
        floored = probabilities.float()
        if self.floor:
            floored = floored * (1 - self.floor) + self.floor / floored.shape[-1]
        logits = torch.log(floored.clamp(min=_FLOOR))
        logits = logits * torch.tensor(self.scale, device=logits.device)
        if self.bias:
            logits = logits + torch.tensor(self.bias, device=logits.device)
        return logits.softmax(dim=-1)

    def apply_fused(self, fused: Fused) -> Fused:
        """The same of fused rows; a row that abstained stays zero."""
        values = self.apply(fused.values)
        if fused.abstained is not None:
            values = values.masked_fill(fused.abstained.unsqueeze(-1), 0.0)
        return Fused(values, fused.contributions, fused.coverage, fused.abstained)

    def to_spec(self, classes: Sequence[str]) -> dict[str, Any]:
        """The fields of a spec: ``temperature`` or ``scale``, ``bias`` by class and ``floor`` where there are any."""
        by_class: dict[str, Any] = {"floor": self.floor} if self.floor else {}
        if len(self.scale) > 1:
            by_class["scale"] = dict(zip(classes, self.scale, strict=True))
        elif self.scale != (1.0,) or not (self.bias or self.floor):
            by_class["temperature"] = 1 / self.scale[0]
        if self.bias:
            by_class["bias"] = dict(zip(classes, self.bias, strict=True))
        return by_class

    @classmethod
    def from_spec(
        cls, fields: Mapping[str, Any], classes: Sequence[str], state: Mapping[str, Tensor] | None = None
    ) -> Calibration:
        """The calibration of a spec's fields, or of the tensors ``scale`` (1 or C) and ``bias`` (C) of its file.

        Raises:
            RuleOptionError: the file holds other tensors than these, or numbers that cannot be used.
        """
        if state is not None:
            return cls._from_state(state, len(classes))
        scale = fields.get("scale")
        scales = (1 / (fields.get("temperature") or 1.0),) if scale is None else tuple(scale[name] for name in classes)
        bias = tuple(fields["bias"][name] for name in classes) if fields.get("bias") else ()
        return cls(scales, bias, fields.get("floor") or 0.0)

    @classmethod
    def _from_state(cls, state: Mapping[str, Tensor], num_classes: int) -> Calibration:
        found = {name: list(tensor.shape) for name, tensor in state.items()}
        allowed = {"scale": ([1], [num_classes]), "bias": ([num_classes],)}
        usable = bool(found) and all(shape in allowed.get(name, ()) for name, shape in found.items())
        if not usable or not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            fix = f"give finite tensors scale (1 or {num_classes} numbers) and bias ({num_classes})"
            raise RuleOptionError("calibration", "state", found, fix)
        scale = tuple(state["scale"].tolist()) if "scale" in state else (1.0,)
        if len(scale) == 1 and scale[0] <= 0:
            raise RuleOptionError("calibration", "scale", scale[0], "give 1 / temperature, above 0")
        return cls(scale, tuple(state["bias"].tolist()) if "bias" in state else ())


def fit_calibration(kind: str, probabilities: NDArray[Any], labels: NDArray[Any]) -> Calibration:
    """The calibration of least log-loss on held-out rows; a convex problem, solved by L-BFGS.

    Args:
        kind: ``floor`` (the share that all classes get alike), ``temperature`` (one number), ``bias`` (C numbers added
            to log p) or ``vector`` (C scales and C biases).
        probabilities: (N, C) of a member, or of a fusion.
        labels: (N,) class indices.

    Raises:
        RuleOptionError: there is no such kind.
        FusionError: the solver did not converge.
    """
    if kind not in KINDS:
        raise RuleOptionError("calibration", "kind", kind, f"use {' or '.join(KINDS)}")
    if kind == "floor":
        return Calibration(floor=_fit_floor(np.asarray(probabilities, dtype=np.float64), labels))
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
    # No stop at a small step of the loss: only where the gradient is 0 is the answer the data's.
    options = {"maxiter": 5000, "maxfun": 10_000, "maxcor": 30, "gtol": 1e-9, "ftol": 0.0}
    from scipy.optimize import minimize  # half a second of what only applies a calibration

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    if not found.success and np.abs(found.jac).max() > 1e-6:
        raise FusionError(
            f"calibration by {kind} stopped: {found.message}; give more rows, or a kind with fewer numbers"
        )
    scale = tuple(found.x[:scales].tolist()) or (1.0,)
    bias = found.x[scales:] if kind != "temperature" else np.zeros(0)
    # Only differences count: without their mean, biases of two fits can be compared.
    return Calibration(scale, tuple((bias - bias.mean()).tolist()) if bias.size else ())


def _fit_floor(probabilities: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """The floor of least log-loss; the loss of a mixture is convex in its share. 0 where the least one helps not."""
    right = probabilities[np.arange(len(labels)), labels]

    def loss(exponent: float) -> float:
        share = 10.0**exponent
        return -float(np.log(np.maximum((1 - share) * right + share / probabilities.shape[1], _FLOOR)).mean())

    from scipy.optimize import minimize_scalar

    found = minimize_scalar(loss, bounds=(_LEAST_FLOOR, _MOST_FLOOR), method="bounded", options={"xatol": 1e-3})
    without = -float(np.log(np.maximum(right, _FLOOR)).mean())
    return float(10.0**found.x) if found.fun < without else 0.0
