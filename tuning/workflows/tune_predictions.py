"""The same question without models: which fusion of these predictions is worth serving?"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.atomic_files import write_whole
from quorate.deployments.display import Displayed, Table
from quorate.deployments.spec.fields.types import Task
from quorate.fusion.sequences.decoding import first_tokens
from quorate.fusion.sequences.tags import tag_scheme
from quorate.tuning.alternatives.base import Outputs, as_lists
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.data.halves import halves
from quorate.tuning.data.predictions_file import Predictions
from quorate.tuning.errors import DataError, PredictionError, TuningError
from quorate.tuning.evaluation.choice import choose
from quorate.tuning.evaluation.metrics.row_metrics import Metric, row_metric
from quorate.tuning.evaluation.outer_interval import OuterInterval, outer_interval
from quorate.tuning.evaluation.row_checks import ONLY_JUDGING, known_by_heart, shifts
from quorate.tuning.evaluation.verdict import Choice
from quorate.tuning.predictions.answered_rows import check_usable
from quorate.tuning.runs.run_folder import new_run_folder, save_report, save_state
from quorate.tuning.solvers.decisions import check_costs
from quorate.tuning.workflows.guarantees import (
    Promised,
    guarantee_lines,
    guarantee_report,
    with_guarantees,
    with_rejections,
)

# Rows of probabilities from many libraries sum to one in float16 only.
_SUM_WITHIN = 1e-2


@dataclass(frozen=True, repr=False)
class PredictionsResult(Displayed):
    """What is best made of given predictions.

    Attributes:
        folder: holds report.json and, for every alternative, ``fusion-NAME.yaml``: the fusion of a spec whose members
            are called as the predictions are.
        choice: the decision over all alternatives.
        rows_left_out: rows that some member did not answer.
        warnings: what is odd about the rows.
        outer: how often the outer quantiles hold the truth, of members that predict quantiles.
    """

    folder: Path
    choice: Choice
    rows_left_out: int
    warnings: tuple[str, ...]
    outer: OuterInterval | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON would hold it."""
        found = {**self.choice.to_dict(), "conformal": guarantee_report(self.choice)}
        found["outer_interval"] = None if self.outer is None else asdict(self.outer)
        return {**found, "rows_left_out": self.rows_left_out, "warnings": list(self.warnings)}

    def tables(self) -> Sequence[Table]:
        """Every alternative on held-out rows, and what follows from it."""
        table = self.choice.table()
        lines = [*table.lines, *([] if self.outer is None else [self.outer.sentence()]), *guarantee_lines(self.choice)]
        lines += self.warnings
        if self.choice.recommended in self.choice.recipes:
            lines.append(f"its fusion for a spec: {self.folder / fusion_file(self.choice.recommended)}")
        return [Table(table.columns, table.rows, lines=lines)]


def fusion_file(name: str) -> str:
    return f"fusion-{name.replace('/', '-')}.yaml"


def tune_predictions(
    predictions: Predictions,
    metric: Metric | None = None,
    costs: ArrayLike | None = None,
    *,
    min_gain: float = 0.0,
    promised: Promised | None = None,
    risk: Risk | None = None,
    name: str = "predictions",
    runs: Path | str = "runs",
    refit: bool = True,
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> PredictionsResult:
    """Fit every alternative on the rows to solve on, judge them on the others, and write what each is.

    Args:
        predictions: of labelled rows; without a split of their own halves are made.
        metric: as of ``tune_fusion``; span_f1 or token_accuracy for tokens, span_f1 when None where their classes are
            tags (O, B-x and I-x).
        costs, min_gain, promised, risk, refit, seed: as of ``tune_fusion``.
        name: what the run's folder is called by.
        runs: where it is made.
        on_step: told what happens next.

    Raises:
        DataError: too few rows.
        PredictionError: outputs that are no probabilities, or members that answered too few rows.
        TuningError: another metric.
    """
    judged = judge(
        predictions, metric, costs, min_gain=min_gain, promised=promised, risk=risk, refit=refit, seed=seed,
        on_step=on_step,
    )  # fmt: skip
    where = new_run_folder(runs, name)
    _write(judged.choice, predictions.classes, where)
    outer = outer_interval(judged.choice, judged.judge)
    result = PredictionsResult(where, judged.choice, judged.left_out, judged.warnings, outer)
    save_report(result.to_dict(), where)
    return result


@dataclass(frozen=True)
class Judged:
    """The decision over predictions, and what it was taken on.

    Attributes:
        solve, judge: rows that were fitted on and judged on.
        left_out: how many others there are.
        warnings: what is odd about the rows.
    """

    choice: Choice
    solve: Outputs
    judge: Outputs
    left_out: int
    warnings: tuple[str, ...]


def judge(
    predictions: Predictions,
    metric: Metric | None = None,
    costs: ArrayLike | None = None,
    *,
    incumbent: Recipe | None = None,
    min_gain: float = 0.0,
    promised: Promised | None = None,
    risk: Risk | None = None,
    quorum: int = 1,
    required: Collection[str] = (),
    refit: bool = True,
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> Judged:
    """The decision over predictions and, where there is one, an incumbent fusion of them; nothing is written.

    Arguments and errors are those of ``tune_predictions`` and ``choose``.
    """
    table = None if costs is None else check_costs(costs, predictions.outputs.shape[2])
    by = row_metric(metric, table, _task(predictions), predictions.levels, predictions.classes)
    _check_whole(predictions)
    outputs, judged = outputs_of(predictions)
    if judged is None:
        first, second = halves(outputs.labels, outputs.groups, outputs.times, seed)
    else:
        first, second = np.flatnonzero(~judged), np.flatnonzero(judged)
    solve, judge = outputs.rows(first), outputs.rows(second)
    odd, seen = shifts(solve, judge), known_by_heart(solve, judge)
    pool = not (odd or seen)
    limits: dict[str, Any] = {"quorum": quorum, "required": required, "seed": seed}
    choice = choose(
        solve, judge, metric=by, incumbent=incumbent, min_gain=min_gain, pool=pool, risk=risk,
        refit=refit and promised is None, on_step=on_step, **limits,
    )  # fmt: skip
    labels = by.task == "multilabel" or _task(predictions) == "multilabel"
    if promised and promised.by_class and labels:
        found = "predictions of labels, whose names a spec has"
        raise TuningError("by_class", found, "leave it out, or tune the spec on labelled rows")
    if promised is not None and risk is not None and risk.max_error is not None:
        raise TuningError("coverage", "max_error beside it", "leave one out: coverage is of probabilities")
    choice = with_guarantees(choice, solve, judge, promised, labels, **limits)
    choice = with_rejections(choice, judge, risk, seed)
    warnings = (*odd, *seen, *([] if pool else [ONLY_JUDGING]))
    answered = int((~np.isnan(outputs.labels)).sum()) if outputs.lists else len(outputs)
    return Judged(choice, solve, judge, len(predictions) - answered, warnings)


def _task(predictions: Predictions) -> Task:
    if predictions.sequences is not None:
        return "tokens" if tag_scheme(predictions.classes) is None else "tagging"
    if predictions.classes:
        return "classification"
    if predictions.levels:
        return "quantiles"
    if predictions.queries is not None:
        return "ranking"
    # Several values are labels that hold or not where they say so, and members' are probabilities of them.
    truth, said = predictions.labels, predictions.outputs
    labels = truth.ndim == 2 and np.isin(truth, (0, 1)).all() and np.nanmin(said) >= 0 and np.nanmax(said) <= 1
    return "multilabel" if labels else "regression"


def outputs_of(predictions: Predictions) -> tuple[Outputs, NDArray[np.bool_] | None]:
    """The rows that every member answered and that count, and which of them are to judge on.

    Raises:
        PredictionError: they are no probabilities, or too few.
    """
    probs = predictions.outputs
    for name, member in zip(predictions.names if predictions.classes else (), probs, strict=False):
        known = member[np.isfinite(member).all(axis=1)]
        off = np.abs(known.sum(axis=1) - 1)
        if len(known) and (known.min() < 0 or off.max() > _SUM_WITHIN):
            found = f"numbers from {known.min():g} to {known.max():g}, rows that sum to up to {1 + off.max():g}"
            raise PredictionError(f"predictions of {name}", found, "give probabilities that sum to one in each row")
    rows = check_usable(predictions.names, np.isfinite(probs).all(axis=2))
    if predictions.weights is not None:
        rows = rows[predictions.weights[rows] > 0]
    if predictions.sequences is not None:
        rows = _whole(predictions.sequences, rows)

    def of(column: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if column is None else column[rows]

    weights = of(predictions.weights)
    if weights is not None:
        weights = weights / weights.mean()
    some = probs[:, rows]
    if predictions.classes:
        some = some / some.sum(axis=2, keepdims=True)
    outputs = Outputs(
        predictions.names,
        some.astype(np.float32),
        predictions.labels[rows],
        weights,
        of(predictions.sequences if predictions.groups is None else predictions.groups),
        of(predictions.times),
        of(predictions.sequences),
        predictions.levels,
    )
    queries, judged = of(predictions.queries), of(predictions.judged)
    if queries is None:
        return outputs, judged
    if judged is not None:
        judged = _of_lists(judged, queries)
    return as_lists(outputs, queries), judged


def _of_lists(judged: NDArray[np.bool_], queries: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each list judges; a list is not on both sides."""
    _, first, place = np.unique(queries, return_index=True, return_inverse=True)
    odd = np.flatnonzero(judged[first][place.reshape(-1)] != judged)
    if len(odd):
        raise DataError("split", f"query {queries[odd[0]]} is on both sides", "give all rows of a query the same")
    return np.asarray(judged[first])


def _whole(sequences: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """The rows of sequences of which no token is missing.

    Raises:
        PredictionError: each has one missing.
    """
    missing = np.ones(len(sequences), dtype=np.bool_)
    missing[rows] = False
    kept = rows[~np.isin(sequences[rows], sequences[missing])]
    if not len(kept):
        raise PredictionError("predictions", "no sequence was answered whole", "correct the members that fail")
    return kept


def _check_whole(predictions: Predictions) -> None:
    """Refuse sequences that are torn: into two groups, times, or sides of the split.

    Raises:
        PredictionError: one is.
    """
    sequences = predictions.sequences
    if sequences is None:
        return
    order, first = first_tokens(sequences)
    inner = ~first[1:]
    for name in ("groups", "times", "judged"):
        column = getattr(predictions, name)
        if column is None:
            continue
        torn = np.flatnonzero(inner & (column[order][1:] != column[order][:-1]))
        if len(torn):
            found = f"sequence {sequences[order[torn[0]]]} has tokens of several"
            raise PredictionError(f"predictions, {name}", found, "give all tokens of a sequence the same")


def _write(choice: Choice, classes: tuple[str, ...], folder: Path) -> None:
    """Each alternative as the fusion of a spec."""
    for name, recipe in choice.served.items():
        fields = {"fusion": recipe.fields(classes, save_state(recipe.state, folder, name))}
        write_whole(folder / fusion_file(name), yaml.safe_dump(fields, sort_keys=False).encode())
