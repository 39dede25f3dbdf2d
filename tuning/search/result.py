"""What a sweep found: its Pareto set, its trials, and whether the best structure is worth deploying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorate.deployments.display import Displayed, Table
from quorate.tuning.search.journal import Finished
from quorate.tuning.search.space import Objective

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,unused-ignore]

    from quorate.tuning.search.pareto import Pick
    from quorate.tuning.search.structures.latency_check import LatencyCheck

_SHOWN_PICKS = 5


@dataclass(frozen=True, repr=False)
class SweepResult(Displayed):
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

    def tables(self) -> Sequence[Table]:
        """The Pareto set, the verdict on the best, and what to do next."""
        rows = [
            (
                str(place),
                pick.structure.topology,
                pick.structure.rule,
                ", ".join(pick.structure.members),
                *(objective_text(name, pick.values[name]) for name in self.objectives),
                f"{pick.log_loss:.4f}",
            )
            for place, pick in enumerate(self.pareto[:_SHOWN_PICKS])
        ]
        lines = [f"{len(self.structures)} structures and {len(self.members)} members tried"]
        if not self.complete:
            lines.append(f"the time was up; quorate tune --resume {self.folder} tries the rest")
        lines += [
            self.verdict,
            f"quorate deploy {self.best.folder / 'spec.yaml'}",
            f"{self.folder / 'report.html'} shows it all",
        ]
        columns = ("pick", "topology", "rule", "members", *self.objectives, "held-out log-loss")
        return [Table(columns, rows, lines=lines)]


def objective_text(objective: str, value: float) -> str:
    """A value with its unit."""
    if objective == "p95_latency_s":
        return f"{value * 1e3:.2f} ms"
    if objective == "memory_bytes":
        return f"{value / 2**20:.2f} MiB"
    return f"{value:.4g}"
