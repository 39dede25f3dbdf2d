"""Which member goes on which node and GPU, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.cluster.arguments.spec import SpecLike, spec_and_folder
from quorate.cluster.local.connection import connected
from quorate.deployments.display import Displayed, Table

if TYPE_CHECKING:
    from quorate.deployments.control.placement import Placed


@dataclass(frozen=True, repr=False)
class Plan(Displayed):
    """A place for each replica, or the problem why it has none."""

    placed: tuple[Placed, ...]

    @property
    def fits(self) -> bool:
        """Whether every replica has a place."""
        return not any(place.problem for place in self.placed)

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)

    def tables(self) -> Sequence[Table]:
        rows = [(p.member, str(p.replica), p.node, p.gpu, p.problem) for p in self.placed]
        return [Table(("member", "replica", "node", "GPU", "problem"), rows)]


def plan(spec: SpecLike, *, folder: str | Path | None = None, address: str | None = None) -> Plan:
    """Place an ensemble's replicas on the nodes of a cluster.

    Args:
        spec: path of a spec file, a spec, or what a spec file holds.
        folder: what its relative paths start from; that of the file, or the current one, when None.
        address: of the Ray cluster; the local one when None.

    Raises:
        ClusterError: there is no such cluster.
        SpecError: the first mistake, with its field and its fix.
    """
    found, _ = spec_and_folder(spec, folder)
    with connected(address):
        from quorate.deployments.control import placement

        return Plan(tuple(placement.plan(found, placement.inventory())))
