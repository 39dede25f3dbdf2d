"""What a run in a job gave: its folder, which is here, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import load_spec


@dataclass(frozen=True, repr=False)
class JobRun(Displayed):
    """A run of tune, train, compress or sweep on a cluster that was reached by its Jobs address.

    Attributes:
        folder: the run's, as it would be had it run here.
        report: as JSON holds it, with the path of the recommended spec.
        shown: what the result shows.
    """

    folder: Path
    report: Mapping[str, Any]
    shown: tuple[Table, ...]

    @property
    def deployable(self) -> Path:
        """The file of the spec that is recommended."""
        return Path(self.report["spec"])

    @property
    def spec(self) -> EnsembleSpec:
        """What it holds."""
        return load_spec(self.deployable)

    def to_dict(self) -> dict[str, Any]:
        """The report."""
        return dict(self.report)

    def tables(self) -> Sequence[Table]:
        return self.shown
