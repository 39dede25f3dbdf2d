"""What ``tune`` gives: the recommended spec, where it is kept, and the decision that it follows from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.registry import PATTERNS
from quorate.tuning.evaluation.outer_interval import OuterInterval
from quorate.tuning.evaluation.verdict import Choice
from quorate.tuning.predictions.filling import FillReport
from quorate.tuning.runs.run_folder import SPEC
from quorate.tuning.workflows.guarantees import guarantee_lines, guarantee_report


@dataclass(frozen=True)
class More:
    """Rows that came since the run that was taken on.

    Attributes:
        solved, judged: new rows that were solved on, and judged on.
        known: rows that were there already.
        before: rows that the run had.
        trained: new rows that members were trained on.
    """

    solved: int
    judged: int
    known: int
    before: int
    trained: int = 0

    def sentence(self) -> str:
        known = f"; {self.known} were there already" if self.known else ""
        new, parts = (
            self.solved + self.judged + self.trained,
            f"solved on {self.solved} of them, judged on {self.judged}",
        )
        trained = f"members trained on {self.trained}, " if self.trained else ""
        return f"{new} new rows beside {self.before}: {trained}{parts}{known}"


@dataclass(frozen=True, repr=False)
class TuneResult(Displayed):
    """What tuning gave.

    Attributes:
        spec: the recommended ensemble, deployable from ``folder``; the one that was given where nothing is worth
            serving.
        folder: holds spec.yaml with all it names, spec-NAME.yaml for every other alternative, report.json, report.html
            and the predictions.
        choice: the decision over all alternatives.
        gap: no weights of a linear pool are better than those of ``tuned`` by more than this, in log-loss or in the
            metric of values, on the rows they were last solved on; None for a metric that has no such proof.
        rows_left_out: rows on which some member failed, by split.
        filled: which predictions were there and which were computed, by split.
        warnings: what is odd about the rows, each as a sentence.
        outer: how often the outer quantiles hold the truth, of members that predict quantiles.
        more: the new rows, where a run was taken on.
    """

    spec: EnsembleSpec
    folder: Path
    choice: Choice
    gap: float | None
    rows_left_out: Mapping[str, int]
    filled: Mapping[str, FillReport]
    warnings: tuple[str, ...] = ()
    outer: OuterInterval | None = None
    more: More | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Of the linear pool ``tuned``; the same for all where none was fitted."""
        recipe = self.choice.served.get("tuned")
        return dict(recipe.weights or {}) if recipe else dict.fromkeys(self.spec.output_fusion.members, 1.0)

    @property
    def patterns(self) -> tuple[Mapping[str, float], ...]:
        """Of the same pool, weights for when exactly these members answered, where they serve held-out folds better
        than the weights rescaled; every alternative's are in its spec.
        """
        recipe = self.choice.served.get("tuned")
        return tuple(recipe.options.get(PATTERNS, ())) if recipe else ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON would hold it: everything but spec and folder."""
        filled = {split: {"kept": one.kept, "computed": dict(one.computed)} for split, one in self.filled.items()}
        return {
            "ensemble": self.spec.name,
            **self.choice.to_dict(),
            "weights": dict(self.weights),
            "gap": self.gap,
            "patterns": [dict(pattern) for pattern in self.patterns],
            "conformal": guarantee_report(self.choice),
            "outer_interval": None if self.outer is None else asdict(self.outer),
            "rows_left_out": dict(self.rows_left_out),
            "filled": filled,
            "warnings": list(self.warnings),
            **({} if self.more is None else {"more": asdict(self.more)}),
        }

    def tables(self) -> Sequence[Table]:
        """Every alternative on held-out rows, and what follows from it."""
        return [self.table(f"quorate deploy {self.folder / SPEC}")]

    def table(self, *more: str, title: str = "") -> Table:
        """The same as one table; further lines stand below it."""
        table = self.choice.table()
        lines = [*([] if self.more is None else [self.more.sentence()]), *table.lines]
        lines += [*([] if self.outer is None else [self.outer.sentence()]), *guarantee_lines(self.choice)]
        return Table(table.columns, table.rows, title, [*lines, *self.warnings, *more])
