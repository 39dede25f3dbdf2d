"""What is asked of a fusion: rows, a metric, what an answer may lose. Checked before anything runs."""

# N rows

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.types import Task
from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.data.labelled import Labelled, is_multilabel
from quorate.tuning.data.overlap import check_rows
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.metrics.metric import RowMetric
from quorate.tuning.evaluation.metrics.row_metrics import Metric, row_metric
from quorate.tuning.predictions.out_of_fold import OutOfFold
from quorate.tuning.solvers.decisions import check_costs
from quorate.tuning.workflows.guarantees import Promised


@dataclass(frozen=True)
class Question:
    """What is asked of a fusion, checked before anything runs.

    Attributes:
        by: the metric.
        warnings: rows that are on both sides.
        out_of_fold: the members were trained on the validation rows.
        solved_before: what is served was fitted on most of the validation rows.
        example: inputs of rows to measure members on, where the held-out rows have none.
    """

    validation: Labelled
    held_out: Labelled
    by: RowMetric
    promised: Promised | None
    warnings: tuple[str, ...]
    out_of_fold: bool
    risk: Risk | None = None
    solved_before: bool = False
    example: Mapping[str, NDArray[Any]] | None = None


def checked_question(
    spec: EnsembleSpec, validation: Labelled, held_out: Labelled, metric: Metric | None, costs: ArrayLike | None,
    promised: Promised | None, out_of_fold: OutOfFold | None = None, risk: Risk | None = None,
    overlaps: list[str] | None = None,
) -> Question:  # fmt: skip
    """See ``tune_fusion``.

    Args:
        overlaps: sentences on rows that are on both sides, where that is known already.

    Raises:
        TuningError, DataError: as there.
    """
    wanted = _promise(spec, promised, risk)
    shared = check_rows(validation, held_out) if overlaps is None else overlaps
    by = _metric(spec, metric, costs, validation, out_of_fold)
    return Question(validation, held_out, by, wanted, tuple(shared), out_of_fold is not None, risk)


def _metric(
    spec: EnsembleSpec, metric: Metric | None, costs: ArrayLike | None, data: Labelled, out_of_fold: OutOfFold | None
) -> RowMetric:
    if out_of_fold and data.labels.dtype.kind == "f":
        raise TuningError("training rows", "true values, or several labels a row", "give rows no member was trained on")
    table = None if costs is None else check_costs(costs, len(spec.classes or ()))
    moments = RULES[spec.output_fusion.rule].moments
    return row_metric(metric, table, _task(spec, data), spec.quantiles or (), moments=moments)


def _task(spec: EnsembleSpec, data: Labelled) -> Task:
    """What the members predict of these rows.

    Raises:
        TuningError: labels are not of the task, or lists are not told apart.
    """
    task = spec.inferred_task
    if is_multilabel(data):
        if spec.task not in (None, "multilabel"):
            raise TuningError("labels", f"several a row for the task {spec.task}", "give one, or say multilabel")
        return "multilabel"
    if task == "multilabel":
        raise TuningError("labels", "one class a row for the task multilabel", "give a list of 0 and 1 a row")
    if task in ("quantiles", "ranking") and data.labels.ndim == 2:
        raise TuningError("labels", f"several values a row for the task {task}", "give one")
    if task == "ranking" and data.groups is None:
        raise TuningError("groups", "none for the task ranking", "name the column that says which rows are one list")
    return task


def _promise(spec: EnsembleSpec, promised: Promised | None, risk: Risk | None) -> Promised | None:
    """How sure answers are to be: what is asked for, else what the spec says."""
    decision = spec.output_fusion.decision
    if risk is not None and risk.max_error is not None and decision is not None and decision.thresholds is not None:
        raise TuningError("max_error", "a fusion that decides by thresholds", "remove one of the two")
    conformal = spec.output_fusion.conformal
    if promised is None and conformal is not None:
        promised = Promised(conformal.coverage, conformal.by_class)
    if promised and (decision or (risk is not None and risk.max_error is not None)):
        raise TuningError("coverage", "a fusion that takes a decision", "remove one of the two: it is of probabilities")
    return promised
