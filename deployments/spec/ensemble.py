"""The ensemble's spec, checked whole as it is made"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import model_validator

from quorate.deployments.spec.checks import check
from quorate.deployments.spec.defaults import with_default_fusion_members, with_inner_deadlines
from quorate.deployments.spec.schema import EnsembleSchema, MemberJob


class EnsembleSpec(EnsembleSchema):
    """Members, how they are wired, and how they are fused. Load one with ``quorate.deployments.load_spec``."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_graph(cls, data: Any) -> Any:
        return with_inner_deadlines(with_default_fusion_members(data))

    @model_validator(mode="after")
    def _cross_check(self) -> EnsembleSpec:
        check(self)
        return self

    def job(self, member: str) -> MemberJob:
        """What one member's replicas are told."""
        spec = self.members[member]
        inputs = {name: self.inputs[name] for name in spec.inputs if name in self.inputs}
        return MemberJob(ensemble=self.name, name=member, member=spec, inputs=inputs, classes=self.classes)

    @property
    def wiring(self) -> str:
        """What the fusion replicas are built around; while it stays the same, a change is a mere new revision."""
        around = self.model_dump(mode="json", include={"name", "inputs", "classes", "serving"})
        return hashlib.sha256(json.dumps(around).encode()).hexdigest()[:12]

    @property
    def revision(self) -> str:
        """Names this state of the fusion: the same words give the same revision on every node."""
        state = self.model_dump(mode="json", include={"classes", "members", "fusion", "fusions", "output"})
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:12]
