"""The ensemble's spec, checked whole as it is made."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import model_validator

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.checks.check_fusions import check_fusion
from quorate.deployments.spec.checks.check_graph import check_cycles, check_graph, check_inner, check_names
from quorate.deployments.spec.checks.check_members import (
    check_classes,
    check_member,
    check_range,
    check_resources,
    check_tensors,
)
from quorate.deployments.spec.checks.check_online import check_online
from quorate.deployments.spec.checks.check_outputs import check_output_classes, check_outputs, check_task_of
from quorate.deployments.spec.checks.check_placement import check_placement
from quorate.deployments.spec.checks.check_record import check_record
from quorate.deployments.spec.checks.check_relabel import check_relabel
from quorate.deployments.spec.defaults import (
    with_all_inputs,
    with_default_fusion_members,
    with_inner_deadlines,
    with_members_inputs,
)
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.spec.schema import EnsembleSchema, MemberJob
from quorate.deployments.spec.suggestions import suggest


class EnsembleSpec(EnsembleSchema):
    """Members, how they are wired, and how they are fused. Load one with ``quorate.deployments.load_spec``."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_graph(cls, data: Any) -> Any:
        return with_inner_deadlines(with_default_fusion_members(with_members_inputs(with_all_inputs(data))))

    @model_validator(mode="after")
    def _cross_check(self) -> EnsembleSpec:
        _check(self)
        return self

    def job(self, member: str) -> MemberJob:
        """What one member's replicas are told."""
        spec = self.members[member]
        inputs = {name: self.inputs[name] for name in spec.inputs if name in self.inputs}
        classes = self._classes_read_of(member)
        own = {field: found for field, found in self.digests.items() if field.startswith(f"members.{member}.")}
        return MemberJob(
            ensemble=self.name, name=member, member=spec, inputs=inputs, classes=classes, digests=own,
            of_tokens=self.of_tokens, lengths=self.lengths if self.lengths in spec.inputs else None,
        )  # fmt: skip

    def _classes_read_of(self, member: str) -> tuple[str, ...] | None:
        """Those of the output that a member is fused into."""
        read = next((output for output in self.outputs if member in self.upstream(output)), None)
        return self.classes if read is None else self.view(read).classes

    @property
    def wiring(self) -> str:
        """What the fusion replicas are built around; while it stays the same, a change is a mere new revision."""
        later = self.later - self.beside
        around = self.model_dump(mode="json", include={"name", "inputs", "classes", "serving", *later})
        if self.outputs:
            around["outputs"] = {name: self.view(name).classes for name in self.outputs}
            around |= {f"{name} is": own for name in self.outputs if (own := _own(self.all_fusions[name]))}
        return hashlib.sha256(json.dumps(around).encode()).hexdigest()[:12]

    @property
    def revision(self) -> str:
        """Names this state of the fusion: the same spec gives the same revision on every node."""
        decides = {"inputs", "classes", "members", "fusion", "fusions", "output", "outputs", "digests"}
        state = self.model_dump(mode="json", include={*decides, *self.later})
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:12]


def _own(fusion: FusionSpec) -> dict[str, Any]:
    """What makes one of several outputs another kind of answer than its members say."""
    return fusion.model_dump(mode="json", include=set(fusion.later))


def _check(spec: EnsembleSchema) -> None:
    """Raise SpecError for the first mistake found."""
    check_tensors(spec)
    check_classes("classes", spec.classes)
    check_names(spec)
    for name, member in spec.members.items():
        check_member(spec, name, member)
    check_cycles(spec)
    if bool(spec.fusion) == bool(spec.fusions):
        found = "both fusion and fusions are given" if spec.fusion else "there is no fusion"
        raise SpecError("fusion", found, "give either fusion (one rule) or fusions (several by name)")
    check_outputs(spec)
    for name, fusion in spec.all_fusions.items():
        check_fusion(spec.view(name) if name in spec.outputs else spec, spec.field_of(name), fusion)
    if spec.output and spec.output not in spec.all_fusions:
        raise SpecError("output", f"'{spec.output}' is not a fusion", suggest(spec.output, spec.all_fusions))
    for name in spec.output_names:
        check_task_of(spec, name)
    for name, fusion in spec.all_fusions.items():
        check_relabel(spec.view(name) if name in spec.outputs else spec, spec.field_of(name), fusion)
    check_graph(spec)
    check_inner(spec)
    check_placement(spec)
    check_record(spec.record)
    check_online(spec)
    if spec.outputs:
        check_output_classes(spec)
    check_resources("serving.resources", spec.serving.resources)
    check_range("serving.replicas", spec.serving.replicas.min, spec.serving.replicas.max)
