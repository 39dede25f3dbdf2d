"""The trained part of a spec's graph as one differentiable network."""

# B batch, C classes, F_m features of member m

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from quorate.deployments.sources.named_inputs import by_names
from quorate.deployments.sources.outputs import pick
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.schema import MemberSpec
from quorate.fusion.base import Rule
from quorate.fusion.features.base import FeatureRule, by_member
from quorate.tuning.composite.trained_part import TrainedPart

# What a node gives: (B, ...) values, and (B,) bool, which rows may be used.
Given = tuple[Tensor, Tensor]


class Composite(nn.Module):
    """Runs what is inside of a ``TrainedPart`` on what is outside of it, with members left out of some rows.

    Attributes:
        spec: the ensemble.
        part: which of its nodes are run here.
    """

    def __init__(
        self, spec: EnsembleSpec, part: TrainedPart, modules: Mapping[str, nn.Module], rules: Mapping[str, Rule]
    ):
        """Args:
        modules: members' networks and feature rules, by name; those of ``part.trained`` are trained.
        rules: of inner fusions over outputs, by name.
        """
        super().__init__()
        self.spec, self.part, self._rules = spec, part, dict(rules)
        self.nodes = by_member(modules)
        for name, module in modules.items():
            module.requires_grad_(name in part.trained)
        self.train()

    def module(self, name: str) -> nn.Module:
        """A member's network, or a feature rule."""
        return self.nodes[f"member_{name}"]

    def train(self, mode: bool = True) -> Composite:
        """Training mode for what is trained; the rest answers as it is served."""
        super().train(mode)
        for name in self.part.inside:
            if name not in self.part.trained and f"member_{name}" in self.nodes:
                self.module(name).eval()
        return self

    def forward(self, columns: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> dict[str, Given]:
        """Run the nodes.

        Args:
            columns: (B, ...) by request input and by member outside.
            there: (B,) bool by the same names, and by those of members inside that are left out of some rows.

        Returns:
            What each node inside and each member outside gives, as a fusion reads it.
        """
        raw: dict[str, Given] = {name: (values, there[name]) for name, values in columns.items()}
        read: dict[str, Given] = {}
        for name in self.part.outside:
            read[name] = (as_read(self.spec.members[name], self.spec.classes, raw[name][0]), raw[name][1])
        for name in self.part.inside:
            if name in self.spec.members:
                sources = [raw[source] for source in self.spec.members[name].inputs]
                present = torch.stack([mask for _, mask in sources]).all(dim=0)
                present = present & there[name] if name in there else present
                values = run_network(self.module(name), self.spec.members[name], [given for given, _ in sources])
                raw[name] = values, present
                read[name] = as_read(self.spec.members[name], self.spec.classes, values), present
            else:
                raw[name] = read[name] = self._fused(name, read)
        return read

    def _fused(self, name: str, read: Mapping[str, Given]) -> Given:
        fusion = self.spec.all_fusions[name]
        present = torch.stack([read[member][1] for member in fusion.members])
        enough = has_quorum(fusion, present)
        # A rule refuses rows that nobody is in; what is made of these is never read.
        filled = present | ~enough
        if name in self._rules:
            return self._rules[name].fuse(torch.stack([read[m][0] for m in fusion.members]), filled).values, enough
        rule = self.module(name)
        assert isinstance(rule, FeatureRule)
        return rule({member: read[member][0] for member in fusion.members}, filled), enough


def run_network(module: nn.Module, member: MemberSpec, tensors: Sequence[Tensor]) -> Tensor:
    """What a member's network gives, as when it is served: inputs by their names, and the output that the spec means.

    Raises:
        OutputError: there is no such output.
    """
    found: Tensor = pick(by_names(module, member.model_inputs, named=bool(member.input_names))(*tensors), member)
    return found


def has_quorum(fusion: FusionSpec, present: Tensor) -> Tensor:
    """(B,) whether a fusion answers, by who is present (M, B), in the order of its members."""
    enough = present.sum(dim=0) >= fusion.quorum
    for name in fusion.required:
        enough = enough & present[fusion.members.index(name)]
    return enough


def as_read(member: MemberSpec, classes: Sequence[str] | None, raw: Tensor) -> Tensor:
    """What a fusion reads of a member's output: (B, C) probabilities under the ensemble's classes, or (B, F_m)."""
    if member.output in ("features", "values"):
        return raw.flatten(1).float()
    values = raw.float().softmax(dim=-1) if member.output == "logits" else raw.float()
    if member.classes is None or classes is None or member.classes == tuple(classes):
        return values
    columns = torch.tensor([list(classes).index(name) for name in member.classes], device=raw.device)
    return values.new_zeros(len(values), len(classes)).index_copy(1, columns, values)
