"""One immutable published state of an ensemble's fusion: everything that decides an answer's value."""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.engine.graph import Graph, build_graph
from quorate.deployments.spec.checks.check_task import SPANS, TAGS
from quorate.deployments.spec.digests import check_fusions
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.limits import CLASSES_IN_ANSWERS
from quorate.fusion.base import FusedArrays


@dataclass(frozen=True)
class Revision:
    """Rules with their weights, and which members they wait for, how long.

    Attributes:
        name: what an answer calls it.
        spec: the ensemble it was built from.
        graph: who is asked, and what is fused; of several outputs for the first.
        views: of several outputs each one as the revision's only one; none where it has one.
        folder: what the spec's paths start from.
        whole: of a view, the spec that it is a view of.
    """

    name: str
    spec: EnsembleSpec
    graph: Graph
    views: Mapping[str, Revision] = field(default_factory=dict)
    folder: Path = Path()
    whole: EnsembleSpec | None = None

    @property
    def by_output(self) -> Mapping[str, Revision]:
        """Each output as the revision's only one, also where it is."""
        return self.views or {self.graph.output.name: self}

    @cached_property
    def fusion(self) -> FusionSpec:
        """The fusion whose value is the answer."""
        return self.graph.output.fusion

    @cached_property
    def deadline_s(self) -> float:
        """The longest that an answer may take."""
        return max((view.deadline_s for view in self.views.values()), default=self.fusion.deadline_s)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """What can be asked: the ensemble first, then the members that read the request alone."""
        inputs, members = self.spec.inputs, self.spec.members
        return (self.spec.name, *(name for name, m in members.items() if all(source in inputs for source in m.inputs)))

    def output(self, model: str) -> str:
        """What the output of the ensemble, or of one of its members, is called."""
        return self.graph.output.name if model == self.spec.name else self.spec.members[model].output

    def outputs(self, model: str) -> tuple[str, ...]:
        """That, and the others, or what a task adds to it in the ensemble's answer."""
        if self.views and model == self.spec.name:
            return tuple(self.views)
        more = {"tokens": (TAGS,), "tagging": (TAGS, SPANS)}.get(self.spec.task or "", ())
        return (self.output(model), *(more if model == self.spec.name else ()))

    def classes(self, model: str) -> tuple[str, ...]:
        """What the last dimension of a model's output stands for; none where it is no classes."""
        member = self.spec.members.get(model)
        if member is None:
            return self.graph.spec.classes or ()
        known = member.classes or self.spec.job(model).classes
        return (known or ()) if member.output in ("logits", "probabilities") else ()

    @cached_property
    def output_parameters(self) -> Mapping[str, Mapping[str, str]]:
        """By model, what an answer says of its first output; nothing of very many classes, which the metadata has."""
        few = (model for model in self.models if len(self.classes(model)) <= CLASSES_IN_ANSWERS)
        return {model: said for model in few if (said := self.describe_output(model))}

    def describe_output(self, model: str) -> Mapping[str, str]:
        """Parameters of a model's first output: its classes, and its task where rows have no single one of them."""
        classes, task = self.classes(model), self.graph.spec.inferred_task
        said = {"classes": orjson.dumps(classes).decode()} if classes else {}
        return {**said, "task": task} if said and task == "multilabel" else said

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """The members fused into the answer, in the order of its rule; one of weight 0 is not asked at all."""
        return self.graph.output.asked

    @cached_property
    def fused(self) -> tuple[str, ...]:
        """The members fused into any output."""
        return tuple(dict.fromkeys(name for view in (self, *self.views.values()) for name in view.asked))

    def fuse(
        self, outputs: NDArray[np.float32], present: NDArray[np.bool_], inputs: Mapping[str, NDArray[Any]] | None = None
    ) -> FusedArrays:
        """Fuse (M, B, C) outputs under an (M, B) mask; a gate reads the request's inputs too."""
        return self.graph.output.fuse(outputs, present, inputs or {})

    def enough(self, states: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(B,) whether quorum and required members hold in each row, by the (M, B) states of its members."""
        return self.graph.output.enough(states)

    def fuse_again(
        self, outputs: NDArray[np.float32], states: NDArray[np.uint8], inputs: Mapping[str, NDArray[Any]]
    ) -> tuple[FusedArrays, NDArray[np.bool_]]:
        """Fuse (M, B, ...) outputs as a batch does, by the (M, B) states of the members.

        Returns:
            The fused rows, and (B,) which of them have a quorum; the others are zeros.
        """
        output = self.graph.output
        if not states.any():  # OK is 0
            return output.fuse(outputs, None, inputs), np.ones(states.shape[1], dtype=np.bool_)
        enough = output.enough(states)
        if not enough.any():
            values, shares = np.zeros(outputs.shape[1:], np.float32), np.zeros(states.shape, np.float32)
            return FusedArrays(values, shares, np.zeros(len(enough), np.float32)), enough
        return output.fuse_where(enough, outputs, states == RowState.OK, inputs), enough


def build_revision(spec: EnsembleSpec, folder: Path) -> Revision:
    """Build the rules that the spec's answer needs.

    Raises:
        SpecError: a rule cannot be built from its options or its state, or a state is not the one that was deployed.
    """
    check_fusions(spec, folder)
    if not spec.outputs:
        return Revision(spec.revision, spec, build_graph(spec, folder), folder=folder)
    graphs = {name: build_graph(spec.view(name), folder) for name in spec.outputs}
    views = {
        name: Revision(spec.revision, graph.spec, graph, folder=folder, whole=spec) for name, graph in graphs.items()
    }
    return Revision(spec.revision, spec, graphs[spec.output_name], views, folder)
