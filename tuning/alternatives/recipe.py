"""A fusion with its numbers, as a spec says it, applied by the code that serves it."""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.calibration.calibration import Calibration
from quorate.fusion.calibration.decision import Decision
from quorate.fusion.learned.gate import Gate
from quorate.fusion.loading import build_rule
from quorate.fusion.registry import RULES
from quorate.fusion.sequences.decoding import padded
from quorate.fusion.sequences.token_fusion import fuse_tokens
from quorate.tuning.alternatives.guarantee import Guarantee
from quorate.tuning.alternatives.thinned import Thinned

# Fused at once: what rules compute in between stays small beside the predictions.
_ROWS = 4096


@dataclass(frozen=True)
class Recipe:
    """What a spec's fusion holds, but for deadlines and quorums.

    Attributes:
        members: names of those that are asked.
        state: tensors of a learned rule.
        member_calibration: of members' outputs, before the rule.
        calibration: of the fused rows, after it.
        decision: taken on those last.
        guarantee: of how sure they are.
        thinned: who is asked no more under too much load.
        classes: names, for a rule over whole sequences, which reads what they say.
    """

    rule: str
    members: tuple[str, ...]
    weights: Mapping[str, float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    member_calibration: Mapping[str, Calibration] = field(default_factory=dict)
    calibration: Calibration | None = None
    decision: Decision | None = None
    guarantee: Guarantee | None = None
    thinned: Thinned | None = None
    classes: tuple[str, ...] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """Members that an answer waits for; one of weight 0 is not asked."""
        weights = self.weights
        return self.members if weights is None else tuple(n for n in self.members if weights.get(n, 0) > 0)

    def fuse(
        self,
        names: Sequence[str],
        probs: NDArray[Any],
        left: Collection[str] | None = None,
        inputs: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> NDArray[np.float32]:
        """(M, N, C) probabilities of the members ``names`` to the (N, C) that would be served.

        Args:
            left: the members that answered; None when all did.
            inputs: (N, D) each, for a rule that chooses members by one.

        Raises:
            FusionError: the rule cannot be built, or cannot fuse them.
        """
        rule = build_rule(self.rule, self.members, self.weights, self.options, self.state or None)
        there = torch.tensor([left is None or name in left for name in self.members]).unsqueeze(1)
        fused = np.empty(probs.shape[1:], dtype=np.float32)
        size = max(1, probs.shape[1]) if RULES[self.rule].lists else _ROWS
        for at in range(0, probs.shape[1], size):
            block = torch.from_numpy(self.calibrated(names, probs[:, at : at + size]))
            mask = None if left is None else there.expand(-1, block.shape[1])
            if isinstance(rule, Gate) and inputs is not None and rule.input_name in inputs:
                read = torch.from_numpy(np.ascontiguousarray(inputs[rule.input_name][at : at + size]))
                answer = rule.fuse(block, mask, read)
            else:
                answer = rule.fuse(block, mask)
            if self.calibration is not None:
                answer = self.calibration.apply_fused(answer)
            if self.decision is not None:
                answer = self.decision.apply(answer)
            fused[at : at + size] = answer.values.numpy()
        return fused

    def fuse_sequences(
        self, names: Sequence[str], probs: NDArray[Any], sequences: NDArray[Any] | None
    ) -> NDArray[np.float32]:
        """The same of a rule over whole sequences; ``sequences`` (N,) says which rows are the tokens of one.

        Raises:
            FusionError: the rule cannot be built, or cannot fuse them.
        """
        rule = build_rule(self.rule, self.members, self.weights, self.options, None, self.classes)
        fused = np.empty(probs.shape[1:], dtype=np.float32)
        said = self.calibrated(names, probs)
        for rows, lengths in padded(sequences, probs.shape[1]):
            there = np.arange(rows.shape[1]) < lengths[:, None]
            found = fuse_tokens(rule, torch.from_numpy(said[:, rows]), padding=torch.from_numpy(~there))
            fused[rows[there]] = found.values.numpy()[there]
        return fused

    def calibrated(self, names: Sequence[str], probs: NDArray[Any]) -> NDArray[np.float32]:
        """What the rule reads, members in its order."""
        found = probs[[names.index(name) for name in self.members]].astype(np.float32, copy=False)
        for row, name in enumerate(self.members):
            if name in self.member_calibration:
                found[row] = self.member_calibration[name].apply(torch.from_numpy(found[row])).numpy()
        return found

    def fields(self, classes: Sequence[str], state: str | None = None) -> dict[str, Any]:
        """The fields of a spec's fusion.

        Args:
            classes: names.
            state: the file that the tensors were written to, where there are any.
        """
        found: dict[str, Any] = {"rule": self.rule, "members": list(self.members)}
        if self.weights is not None:
            found["weights"] = dict(self.weights)
        if self.options:
            found["options"] = dict(self.options)
        if state is not None:
            found["state"] = state
        if self.member_calibration:
            found["member_calibration"] = {n: c.to_spec(classes) for n, c in self.member_calibration.items()}
        if self.calibration is not None:
            found["calibration"] = self.calibration.to_spec(classes)
        if self.decision is not None:
            found["decision"] = self.decision.to_spec(classes)
        if self.guarantee is not None:
            found["conformal"] = self.guarantee.fields(classes)
        if self.thinned is not None:
            found["thinning"] = self.thinned.fields()
        return found
