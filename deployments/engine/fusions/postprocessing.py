"""What stands around a fusion's rule: members are calibrated before it, its answer calibrated and decided after it.

In between classes may be answered as others. All of it is numbers of one revision, applied where the fusion is
computed: tuned values go live without a restart.
"""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from quorate.deployments.engine.state_file import load_state
from quorate.deployments.spec.fields.fusion import CalibrationSpec, FusionSpec
from quorate.fusion.base import Fused
from quorate.fusion.calibration.calibration import Calibration
from quorate.fusion.calibration.decision import Decision
from quorate.fusion.calibration.relabelling import Relabelling


@dataclass(frozen=True)
class Postprocessing:
    """Calibrations, relabelling and decision of one fusion.

    Attributes:
        before: of members, by their row in what the rule reads.
        after: of the fused row.
        relabel: of that, calibrated as members were fitted: by the classes that they call by their names.
        decision: taken last.
    """

    before: Mapping[int, Calibration] = field(default_factory=dict)
    after: Calibration | None = None
    relabel: Relabelling | None = None
    decision: Decision | None = None

    def members(self, outputs: Tensor) -> Tensor:
        """(M, B, C) probabilities to the same, calibrated; what stands in an absent row stays unread."""
        if not self.before:
            return outputs
        outputs = outputs.clone()
        for row, calibration in self.before.items():
            outputs[row] = calibration.apply(outputs[row])
        return outputs

    def fused(self, fused: Fused) -> Fused:
        """Calibrate, relabel and decide fused rows."""
        if self.after is not None:
            fused = self.after.apply_fused(fused)
        if self.relabel is not None:
            fused = self.relabel.apply_fused(fused)
        return fused if self.decision is None else self.decision.apply(fused)


def build_postprocessing(
    fusion: FusionSpec, asked: tuple[str, ...], folder: Path, classes: tuple[str, ...]
) -> Postprocessing:
    """What a fusion's spec asks for.

    Args:
        asked: the members in the order of the rule.
        folder: where the files of calibrations are.
        classes: the ensemble's.

    Raises:
        RuleOptionError: a file's tensors do not fit.
        SpecError: a file cannot be read.
    """
    specs = fusion.member_calibration
    members = {row: _calibration(specs[n], folder, classes) for row, n in enumerate(asked) if n in specs}
    after, taken = None if fusion.calibration is None else _calibration(fusion.calibration, folder, classes), None
    if fusion.decision is not None:
        taken = Decision.from_spec(fusion.decision.thresholds, fusion.decision.reject_below, classes)
    relabel = Relabelling.from_spec(fusion.relabel, classes) if fusion.relabel else None
    return Postprocessing(members, after, relabel, taken)


def _calibration(spec: CalibrationSpec, folder: Path, classes: tuple[str, ...]) -> Calibration:
    state = load_state(spec.state, folder) if spec.state else None
    return Calibration.from_spec(spec.model_dump(), classes, state)
