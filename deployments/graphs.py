"""Which graphs can be served so far."""

from __future__ import annotations

from quorate.deployments.spec import EnsembleSpec
from quorate.fusion.catalogue import RULES
from quorate.fusion.errors import DeployError


def refuse_unserved_graphs(spec: EnsembleSpec) -> None:
    """Say that a graph validates but cannot be served yet."""
    for name, member in spec.members.items():
        others = [source for source in member.inputs if source not in spec.inputs]
        if others:
            found = f"member '{name}' reads {', '.join(others)}: serial and stacked graphs are not served yet"
            raise DeployError(f"{found}; let members read request inputs only")
    entry = RULES[spec.output_fusion.rule]
    if entry.steered or entry.reads == ("features",):
        raise DeployError(f"rule '{spec.output_fusion.rule}' is not served yet; choose one that reads members' outputs")
    if len(spec.all_fusions) > 1:
        raise DeployError(
            f"{spec.name} names {len(spec.all_fusions)} fusions: one is served so far; keep the one you need"
        )
