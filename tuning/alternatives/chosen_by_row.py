"""Alternatives that choose members by the request: a gate, and those that were right on rows like this one."""

# M members, N rows, C classes, D numbers of a request input

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from quorate.fusion.learned.base import LearnedRule
from quorate.fusion.learned.dynamic_selection import fit_dynamic_selection
from quorate.fusion.learned.gate import fit_gate
from quorate.fusion.learned.meta_des import fit_meta_des
from quorate.fusion.training import Training
from quorate.tuning.alternatives.base import Alternative, Kind, Outputs
from quorate.tuning.alternatives.recipe import Recipe

# Of few rows none is like another; and each rule that looks rows up is served with those that it knows.
FEWEST_ROWS = 500
_GATE_ROWS, _KNOWN_ROWS, _STEPS = 5_000, 2_000, 300


@dataclass(frozen=True)
class ChosenByRow:
    """A rule that reads a request input beside what members say.

    Attributes:
        input_name: of the request input.
        rows: that it is fitted on, at most.
        make: fits it on members' names, (n, D), (M, n, C) and labels, with a seed.
    """

    name: str
    input_name: str
    rows: int
    make: Callable[..., LearnedRule]
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        some = outputs.sample(self.rows, seed)
        read = torch.from_numpy(np.ascontiguousarray(some.inputs[self.input_name]))
        probs = torch.from_numpy(some.probs.astype(np.float32, copy=False))
        with threadpool_limits(1):  # products too small to be shared
            rule = self.make(some.names, read, probs, torch.from_numpy(some.labels), self.input_name, seed)
        return Recipe(rule.name, some.names, None, rule.options, rule.state())


def by_row_alternatives(inputs: Mapping[str, NDArray[Any]], rows: int) -> list[Alternative]:
    """Those there are, over the input with the most numbers; none for too few rows, or without one of two or more.

    Args:
        inputs: (N, D) each, by name.
        rows: how many there are to fit on.
    """
    widest = max(inputs, key=lambda name: inputs[name].shape[1], default=None)
    if widest is None or rows < FEWEST_ROWS or inputs[widest].shape[1] < 2:
        return []
    return [
        ChosenByRow("gate", widest, _GATE_ROWS, _gate),
        *(
            ChosenByRow(f"knora_{select}", widest, _KNOWN_ROWS, partial(_nearest, select=select))
            for select in ("union", "eliminate")
        ),
        ChosenByRow("meta_des", widest, _KNOWN_ROWS, _meta_des),
    ]


def _gate(
    names: tuple[str, ...], read: torch.Tensor, probs: torch.Tensor, labels: torch.Tensor, name: str, seed: int
) -> LearnedRule:
    training = Training(steps=_STEPS, seed=seed)  # with members left out: it does without some when it is served
    return fit_gate(names, read, probs, labels, input_name=name, top_k=len(names), training=training)


def _nearest(
    names: tuple[str, ...], read: torch.Tensor, probs: torch.Tensor, labels: torch.Tensor, name: str, seed: int,
    select: str,
) -> LearnedRule:  # fmt: skip
    return fit_dynamic_selection(names, read, probs, labels, input_name=name, select=select)


def _meta_des(
    names: tuple[str, ...], read: torch.Tensor, probs: torch.Tensor, labels: torch.Tensor, name: str, seed: int
) -> LearnedRule:
    return fit_meta_des(names, read, probs, labels, input_name=name)
