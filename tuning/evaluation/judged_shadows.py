"""Shadows and the live fusion by the labels of recorded answers: all of them on the same rows."""

# R rows, N labelled rows, G answers

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.revision import Revision
from quorate.deployments.errors import SpecError
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.learning.reading import Record, RecordedRows
from quorate.deployments.learning.replaying import Replayed, replay_rows
from quorate.deployments.learning.shadows.fitting import misfit, views_of
from quorate.deployments.rollout.confidence_sequence import mean_within
from quorate.fusion.errors import QuorateError
from quorate.tuning.evaluation.bayesian_bootstrap import group_numbers, group_sums
from quorate.tuning.evaluation.metrics.row_metrics import row_metric

ACCURACY = "accuracy"
# Means of numbers of each row. Of other tasks a row by itself has no number.
_METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": ("log_loss", ACCURACY), "binary": ("log_loss", ACCURACY), "multilabel": ("log_loss",),
    "regression": ("mae",), "quantiles": ("pinball",),
}  # fmt: skip
# A shadow that is no better is called better with this probability at most, however often it is looked at.
ALPHA = 0.05


@dataclass(frozen=True)
class Judged:
    """A shadow and the live fusion by one metric, on labelled rows that both answer.

    Attributes:
        answers: that these rows belong to; those of one answer are not taken as independent.
        live, shadow: the metric of each.
        gain: how much better the shadow is, and ``least`` and ``most`` it may be: at all looks, but for ``ALPHA``.
    """

    metric: str
    rows: int
    answers: int
    live: float
    shadow: float
    gain: float
    least: float
    most: float


@dataclass
class _Pair:
    """Numbers of labelled rows of the live fusion and of one shadow, part by part."""

    live: list[NDArray[np.float64]] = field(default_factory=list)
    shadow: list[NDArray[np.float64]] = field(default_factory=list)
    answers: list[NDArray[Any]] = field(default_factory=list)


def judge_shadows(
    record: Record, live: Revision, shadows: Mapping[str, Revision]
) -> dict[tuple[str, str], list[Judged]]:
    """Judge shadows by the labels of recorded answers that these, or other revisions of the same members, gave.

    Args:
        record: of the ensemble.
        shadows: by name.

    Returns:
        By shadow and output, the output's name empty where there is one; nothing of those without a labelled row.
    """
    labels, pairs = record.labels(), dict[tuple[str, str, str], _Pair]()
    if not len(labels):
        return {}
    with tempfile.TemporaryDirectory(prefix="q") as scratch:
        writers = _Writers(record, live, Path(scratch))
        for rows in record.rows():
            found = labels.of(rows)
            places = np.array([at for at, label in enumerate(found) if label is not None], np.intp)
            if len(places) and rows.about.task in _METRICS and writers.fits(rows.about.revision):
                truth = _true(rows, [label for label in found if label is not None])
                _add(pairs, _at(rows, places), truth, live, shadows)
    judged: dict[tuple[str, str], list[Judged]] = {}
    for (name, output, metric), pair in pairs.items():
        judged.setdefault((name, output), []).append(_judged(metric, pair))
    return judged


class _Writers:
    """Whether what recorded revisions were fused from is what the live one is: their members are the same."""

    def __init__(self, record: Record, live: Revision, scratch: Path):
        self._record, self._live, self._scratch = record, live, scratch
        self._known = {live.name: True}

    def fits(self, name: str) -> bool:
        if name not in self._known:
            try:
                self._known[name] = not misfit(self._live, self._record.revision(name, self._scratch))
            except (QuorateError, SpecError):  # it is not beside the record, or no more
                self._known[name] = False
        return self._known[name]


def _true(rows: RecordedRows, labels: list[Label]) -> NDArray[Any]:
    return true_arrays(rows.about.classes, rows.about.task, labels)


def _at(rows: RecordedRows, places: NDArray[np.intp]) -> RecordedRows:
    """Some of the rows."""
    declined = None if rows.abstained is None else rows.abstained[places]
    some = {name: getattr(rows, name)[places] for name in ("ids", "numbers", "times_us", "calls", "fused", "coverage")}
    outputs, states = np.ascontiguousarray(rows.outputs[:, places]), np.ascontiguousarray(rows.states[:, places])
    return replace(rows, **some, outputs=outputs, states=states, abstained=declined, batch=rows.batch.take(places))


def _add(
    pairs: dict[tuple[str, str, str], _Pair], rows: RecordedRows, truth: NDArray[Any], live: Revision,
    shadows: Mapping[str, Revision],
) -> None:  # fmt: skip
    output = rows.about.output if live.views else ""
    mine = _answers(live, output, rows)
    for name, shadow in shadows.items() if mine is not None else ():
        other = _answers(shadow, output, rows)
        if mine is None or other is None:
            continue
        both = mine.answered & ~mine.abstained & other.answered & ~other.abstained
        for metric in _METRICS[rows.about.task] if both.any() else ():
            pair = pairs.setdefault((name, output, metric), _Pair())
            pair.live.append(_numbers(metric, rows, truth[both], mine.values[both]))
            pair.shadow.append(_numbers(metric, rows, truth[both], other.values[both]))
            pair.answers.append(rows.ids[both].astype(str))


def _answers(revision: Revision, output: str, rows: RecordedRows) -> Replayed | None:
    """What a revision says of the rows; nothing of an output that it does not have, or rows that it cannot read."""
    view = views_of(revision).get(output)
    try:
        return None if view is None else replay_rows(view, rows)
    except QuorateError:
        return None


def _numbers(metric: str, rows: RecordedRows, truth: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    task: Any = rows.about.task
    if metric == ACCURACY:
        return np.asarray(values.argmax(axis=1) == truth, np.float64)
    of = row_metric(metric, task=task, levels=rows.about.quantiles, classes=rows.about.classes)
    return np.asarray(of.rows(truth, values, None).mean(axis=1), np.float64)


def _judged(metric: str, pair: _Pair) -> Judged:
    live, shadow = np.concatenate(pair.live), np.concatenate(pair.shadow)
    gains = shadow - live if metric == ACCURACY else live - shadow
    gain, number = float(gains.mean()), group_numbers(np.concatenate(pair.answers), len(gains))
    # Of a mean over answers of several rows: each answer's part in the deviation of the ratio of two sums.
    parts = group_sums((gains - gain)[:, None], number)[:, 0] * (number.max() + 1) / len(gains)
    within = mean_within(float(parts.std()), len(parts), ALPHA)
    return Judged(
        metric, len(gains), len(parts), float(live.mean()), float(shadow.mean()), gain, gain - within, gain + within
    )
