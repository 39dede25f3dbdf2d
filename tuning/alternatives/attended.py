"""Attention as an alternative: how much a member counts depends on what it and the others say."""

# M members, N rows, C classes

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from quorate.fusion.calibration.calibration import Calibration, fit_calibration
from quorate.fusion.learned.output_attention import fit_output_attention
from quorate.fusion.training import Training
from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.one_error_more import one_error_more
from quorate.tuning.alternatives.recipe import Recipe

# It has hundreds of parameters, and every tune waits for its six fits.
FEWEST_ROWS = 500
_ROWS, _STEPS = 10_000, 300


@dataclass(frozen=True)
class Attended:
    """Attention over members' logits, trained with members left out: it does without some when it is served. What it
    says has a floor, as it is no surer than rows without an error allow.
    """

    name: ClassVar[str] = "attention"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        some = outputs.sample(_ROWS, seed)
        probs = torch.from_numpy(some.probs.astype(np.float32, copy=False))
        with threadpool_limits(1):  # products too small to be shared
            rule = fit_output_attention(
                some.names, probs, torch.from_numpy(some.labels), over="logits",
                training=Training(steps=_STEPS, seed=seed),
            )  # fmt: skip
        recipe = Recipe(rule.name, some.names, None, rule.options, rule.state())
        fused, labels, _ = one_error_more(recipe.fuse(some.names, some.probs)[None], some.labels)
        return replace(recipe, calibration=Calibration(floor=fit_calibration("floor", fused[0], labels).floor))
