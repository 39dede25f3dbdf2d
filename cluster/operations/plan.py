"""What a deployment would start, where, and what it would leave as it is, before anything happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.cluster.arguments.spec import SpecLike, naming_spec_lines, spec_and_folder
from quorate.cluster.local.connection import connected, is_jobs_address
from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.model_files.notes import notes

if TYPE_CHECKING:
    from quorate.deployments.control.placement import PlannedApp
    from quorate.deployments.spec.fields.fusion import FusionSpec


@dataclass(frozen=True, repr=False)
class Plan(Displayed):
    """What becomes of each member and of the doors on each node, and the problem where something has no place.

    Attributes:
        notes: what models' files cost without need, and what is left of answers under too much load.
    """

    apps: tuple[PlannedApp, ...]
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether everything has a place."""
        return not any(app.problem for app in self.apps)

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {"apps": [{**asdict(app), "problem": app.problem} for app in self.apps], "notes": list(self.notes)}

    def tables(self) -> Sequence[Table]:
        rows = [
            (
                one.part,
                one.action,
                ", ".join(place.node for place in one.places),
                str(one.needs),
                one.problem or one.why,
            )
            for one in self.apps
        ]
        columns = ("part", "what happens", "node of each replica", "memory of each", "why")
        return [Table(columns, rows, lines=self.notes)]


@naming_spec_lines
def plan(spec: SpecLike, *, folder: str | Path | None = None, address: str | None = None) -> Plan:
    """Compare a spec with what runs, and place what is new on what the nodes of a cluster have free now.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        folder: what its relative paths start from; that of the file, or the current one, when None.
        address: of the Ray cluster; the local one when None.

    Raises:
        ClusterError: there is no such cluster.
        DeployError: no node can hold the doors.
        SpecError: the first mistake, with its field and its fix.
    """
    found, place = spec_and_folder(spec, folder)
    if is_jobs_address(address):
        from quorate.cluster.jobs.call import call_in_job
        from quorate.cluster.jobs.parcel import spec_parcel

        with spec_parcel(found, place) as parcel:
            return _from_dict(call_in_job(address, "plan", {}, parcel))
    with connected(address):
        from quorate.deployments.control import deploy as control

        return Plan(tuple(control.plan(found, place)), (*notes(found, place), *_under_load(found.output_fusion)))


def _under_load(fusion: FusionSpec) -> list[str]:
    """Who is left out under too much load, and what is expected of the answers of the others."""
    if fusion.overload != "thin":
        return []
    if not fusion.thinning.steps:
        said = f"who has the least weight for its time is left out first, down to {fusion.quorum}"
        return [f"under too much load {said}; quorate tune finds the best order, and what it costs"]
    steps = "; ".join(
        f"{number}. without {step.without}: {_metrics(step.expected)}"
        for number, step in enumerate(fusion.thinning.steps, start=1)
    )
    whole = _metrics(fusion.thinning.expected)
    return [f"under too much load members are left out one by one; of all: {whole}; {steps}"]


def _metrics(expected: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in expected.items())


def _from_dict(told: dict[str, Any]) -> Plan:
    """What ``to_dict`` gave."""
    from quorate.deployments.control.placement import Placed, PlannedApp
    from quorate.deployments.records.memory_needs import Needs

    def planned(places: list[dict[str, Any]], needs: dict[str, Any], replaces: list[str], **one: Any) -> PlannedApp:
        del one["problem"]
        found = tuple(Placed(**place) for place in places)
        return PlannedApp(places=found, needs=Needs(**needs), replaces=tuple(replaces), **one)

    return Plan(tuple(planned(**app) for app in told["apps"]), tuple(told["notes"]))
