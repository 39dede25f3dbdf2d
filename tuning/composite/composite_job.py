"""All that a composite's training is made of, sent to whoever runs it."""

# N rows, F_m features of member m

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quorate.deployments.engine.state_file import load_state
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.fusion.base import Rule
from quorate.fusion.errors import FusionError
from quorate.fusion.loading import build_rule, load_feature_rule
from quorate.fusion.registry import RULES
from quorate.tuning.composite.columns import Columns
from quorate.tuning.composite.composite_run import CompositeRun, Trainable
from quorate.tuning.composite.loss import Objective, Task
from quorate.tuning.composite.network import Composite, as_read, run_network
from quorate.tuning.composite.share import Share
from quorate.tuning.composite.trained_part import TrainedPart
from quorate.tuning.errors import TuningError
from quorate.tuning.training.epochs import Training


@dataclass(frozen=True)
class CompositeJob:
    """A training that has not begun.

    Attributes:
        folder: what the spec's paths start from.
        part: what is trained.
        rows, validation, unlabelled: as of ``CompositeRun``.
    """

    spec: EnsembleSpec
    folder: Path
    part: TrainedPart
    task: Task
    rows: Columns
    validation: Columns
    unlabelled: Columns | None = None
    training: Training = field(default_factory=Training)
    objective: Objective = field(default_factory=Objective)

    def start(self, share: Share | None = None) -> CompositeRun:
        """The run, before its first epoch.

        Raises:
            TuningError: something that is trained is no network, or cannot be built.
            MemberLoadError, SpecError: a member or a state cannot be loaded.
        """

        def make() -> Trainable:
            made = self._trainable()
            if share is not None:  # the same first parameters everywhere, other members left out
                torch.manual_seed(self.training.seed + 7919 * share.rank)
            return made

        return CompositeRun(
            make, self._rule(), self.task, self.training, self.objective,
            self.rows, self.validation, self.unlabelled, share,
        )  # fmt: skip

    def _rule(self) -> Rule | None:
        fusion = self.spec.output_fusion
        entry = RULES[fusion.rule]
        if entry.learned or entry.steered or entry.decides:
            return None
        return _rule(fusion, self.folder)

    def _trainable(self) -> Trainable:
        """Members and rules, sources first: how wide a fusion is, its members say."""
        outputs = {name: column[:2] for name, column in self.rows.values.items()}
        read = {n: as_read(self.spec.members[n], self.spec.classes, outputs[n]) for n in self.part.outside}
        modules: dict[str, nn.Module] = {}
        rules: dict[str, Rule] = {}
        for name in self.part.inside:
            if name in self.spec.members:
                modules[name] = network_of(self.spec, name, self.folder, name in self.part.trained)
                outputs[name] = self._tried(name, modules[name], outputs)
                read[name] = as_read(self.spec.members[name], self.spec.classes, outputs[name])
                continue
            fusion = self.spec.all_fusions[name]
            if RULES[fusion.rule].reads == ("features",):
                found = self._feature_rule(name, {one: read[one].shape[1] for one in fusion.members})
                modules[name] = found
                with torch.no_grad():
                    outputs[name] = found({one: read[one] for one in fusion.members})
            else:
                rules[name] = _rule(fusion, self.folder)
                outputs[name] = rules[name].fuse(torch.stack([read[one] for one in fusion.members])).values
            read[name] = outputs[name]
        features = [
            n for n in self.part.trained if n in self.spec.members and self.spec.members[n].output == "features"
        ]
        wide = self.rows.labels.shape[-1] if self.rows.labels is not None and self.task != "classes" else 0
        heads = {name: read[name].shape[1] for name in features} if self.objective.auxiliary else {}
        return Trainable(
            Composite(self.spec, self.part, modules, rules), heads, wide or len(self.spec.classes or ()) or 1
        )

    def _tried(self, name: str, module: nn.Module, outputs: Mapping[str, Tensor]) -> Tensor:
        """What a member gives for two rows."""
        try:
            with torch.no_grad():
                member = self.spec.members[name]
                found = run_network(module.eval(), member, [outputs[source] for source in member.inputs])
        except Exception as error:  # a network may raise anything at all
            shapes = ", ".join(str(list(outputs[source].shape)) for source in self.spec.members[name].inputs)
            found_here = f"it fails on {shapes} with {type(error).__name__}: {error}"
            raise TuningError(f"members.{name}", found_here, "make it fit what it reads") from error
        return found

    def _feature_rule(self, name: str, widths: Mapping[str, int]) -> nn.Module:
        fusion = self.spec.all_fusions[name]
        options = options_with_widths(fusion, widths)
        kind = load_feature_rule(fusion.rule)
        try:
            if fusion.state:
                return kind.from_spec(fusion.members, fusion.weights, options, load_state(fusion.state, self.folder))
            return kind.untrained(fusion.members, fusion.weights, options)
        except FusionError as error:
            raise TuningError(f"fusions.{name}", str(error), "correct the fusion's options") from None


def network_of(spec: EnsembleSpec, name: str, folder: Path, trained: bool) -> nn.Module:
    """A member's network.

    Raises:
        TuningError: it is none, or one whose parameters are to be trained and are not float32.
        MemberLoadError: it cannot be loaded.
    """
    member = spec.members[name]
    module = load_model(name, member, folder, torch.device("cpu")).module
    if module is None:
        found = f"{member.model} makes no torch.nn.Module"
        raise TuningError(f"members.{name}", found, "train others; one that is read by what is trained has to be one")
    kinds = {str(one.dtype) for one in module.parameters()} - {"torch.float32"}
    if trained and kinds:
        raise TuningError(f"members.{name}", f"its parameters are {', '.join(sorted(kinds))}", "train it in float32")
    return module


def options_with_widths(fusion: FusionSpec, widths: Mapping[str, int]) -> dict[str, Any]:
    """A feature fusion's options, ``widths`` as found where the spec does not give them."""
    return {"widths": {name: widths[name] for name in fusion.members}, **fusion.options}


def _rule(fusion: FusionSpec, folder: Path) -> Rule:
    state = load_state(fusion.state, folder) if fusion.state else None
    try:
        return build_rule(fusion.rule, fusion.members, fusion.weights, fusion.options, state)
    except FusionError as error:
        raise TuningError("fusion", str(error), "correct the fusion's options") from None
