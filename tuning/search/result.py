"""What a sweep found: its Pareto set, its trials, and whether the best structure is worth deploying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.tuning.search.journal import Finished
from quorate.tuning.search.space import Objective

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,unused-ignore]

    from quorate.tuning.search.pareto import Pick
    from quorate.tuning.search.structures.latency_check import LatencyCheck


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        folder: the run's; ``pareto/0/spec.yaml`` and so on are deployable, ``report.html`` shows it all.
        pareto: structures that none other betters in every objective, the lowest first objective first.
        structures, members: all finished trials.
        objectives: what was made small.
        complete: False when the time was up before all trials had run.
        seconds: of each phase.
        latency: what the prediction of it was worth, by place in the Pareto set.
    """

    folder: Path
    pareto: tuple[Pick, ...]
    structures: tuple[Finished, ...]
    members: tuple[Finished, ...]
    objectives: tuple[Objective, ...]
    complete: bool
    seconds: Mapping[str, float]
    latency: Mapping[str, LatencyCheck]

    @property
    def best(self) -> Pick:
        """The structure with the lowest first objective."""
        return self.pareto[0]

    @property
    def verdict(self) -> str:
        """Whether the best is worth deploying, on held-out rows."""
        return self.best.judgement.verdict

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each structure trial: number, objectives, failure, and what was proposed."""
        import pandas

        rows = [{"trial": t.number, **t.values, "failure": t.failure, **t.params} for t in self.structures]
        return pandas.DataFrame(rows).set_index("trial")

    def to_dict(self) -> dict[str, Any]:
        return {
            "search": "architecture",
            "run": str(self.folder),
            "spec": str(self.best.folder / "spec.yaml"),
            "objectives": list(self.objectives),
            "pareto": [pick.to_dict() for pick in self.pareto],
            "trials": len(self.structures),
            "failed": sum(trial.failure is not None for trial in self.structures),
            "member_trials": len(self.members),
            "members_failed": sum(trial.failure is not None for trial in self.members),
            "complete": self.complete,
            "seconds": dict(self.seconds),
            "latency": {place: {**asdict(check), "error_s": check.error_s} for place, check in self.latency.items()},
            "verdict": self.verdict,
        }
