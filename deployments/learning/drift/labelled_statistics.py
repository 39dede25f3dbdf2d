"""What is looked at of answers whose labels have come."""

# M members, R rows, C classes, G groups of classes, S statistics

from __future__ import annotations

import numpy as np

from quorate.deployments.learning.drift.rows import ONE_CLASS, Array, Floats, Rows, Subject
from quorate.deployments.learning.drift.statistics import (
    Statistic,
    answers,
    class_groups,
    group_names,
    of_each,
    said_shares,
    sureness,
)
from quorate.fusion.evaluation.measures import LEAST_PROBABILITY

# In nats: what a row loses by log-loss counts as so much at most, or a single row would decide.
MOST_LOSS = float(-np.log(1e-3))
_JUDGED = (*ONE_CLASS, "multilabel", "regression")


class Loss:
    """What each member, and the answer, loses: log-loss, up to ``MOST_LOSS``; of values the mean absolute error."""

    name, labelled, both = "loss", True, False

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return (0.0, MOST_LOSS) if subject.of_classes else None

    def statistics(self, subject: Subject) -> list[Statistic]:
        return of_each(self.name, subject) if subject.task in _JUDGED else []

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        truth = known_truth(rows)
        found = [np.where(known, _loss(subject, values, truth), np.nan) for values, known in answers(subject, rows)]
        return np.stack(found, axis=1)


class Calibration:
    """How much surer than right each member, and the answer, is; of values how much too high."""

    name, labelled, both = "calibration", True, True

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return (-1.0, 1.0) if subject.of_classes else None

    def statistics(self, subject: Subject) -> list[Statistic]:
        return of_each(self.name, subject) if subject.task in _JUDGED else []

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        truth = known_truth(rows)
        found = [
            np.where(known, _too_sure(subject, values, truth, rows), np.nan) for values, known in answers(subject, rows)
        ]
        return np.stack(found, axis=1)


class Labels:
    """Whether a class is the true one."""

    name, labelled, both = "labels", True, True

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return 0.0, 1.0

    def statistics(self, subject: Subject) -> list[Statistic]:
        if subject.task not in _JUDGED or not subject.classes:
            return []
        return [Statistic(self.name, (), name) for name in group_names(subject.classes)]

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        truth = known_truth(rows)
        if subject.task in ONE_CLASS:
            truth = np.eye(len(subject.classes))[truth]
        return said_shares(subject, truth, rows)


class Errors:
    """Of the rows that are answered a class, whether another one is true: a class that means something else now."""

    name, labelled, both = "errors", True, False

    def span(self, subject: Subject) -> tuple[float, float] | None:
        return 0.0, 1.0

    def statistics(self, subject: Subject) -> list[Statistic]:
        if subject.task not in ONE_CLASS:
            return []
        return [Statistic(self.name, (), name) for name in group_names(subject.classes)]

    def numbers(self, subject: Subject, rows: Rows) -> Floats:
        said, groups = rows.fused.argmax(axis=1), class_groups(len(subject.classes))
        wrong = (said != known_truth(rows)).astype(np.float64)
        mine = (np.arange(groups[-1] + 1) == groups[said][:, None]) & rows.said[:, None]
        return np.where(mine, wrong[:, None], np.nan)


def known_truth(rows: Rows) -> Array:
    """What is true of rows that have labels."""
    assert rows.truth is not None
    return rows.truth


def _loss(subject: Subject, values: Array, truth: Array) -> Floats:
    if subject.task in ONE_CLASS:
        given = values[np.arange(len(truth)), truth].astype(np.float64)
        return np.asarray(-np.log(np.maximum(given, LEAST_PROBABILITY)))
    if subject.task == "multilabel":
        sure = np.where(truth > 0.5, values, 1 - values).astype(np.float64)
        return np.asarray(-np.log(np.maximum(sure, LEAST_PROBABILITY)).mean(axis=1))
    return np.asarray(np.abs(_beside(values, truth)).mean(axis=1))


def _too_sure(subject: Subject, values: Array, truth: Array, rows: Rows) -> Floats:
    if subject.task in ONE_CLASS:
        return np.asarray(sureness(subject, values, rows) - (values.argmax(axis=1) == truth))
    if subject.task == "multilabel":
        return np.asarray((values.astype(np.float64) - truth).mean(axis=1))
    return np.asarray(_beside(values, truth).mean(axis=1))


def _beside(values: Array, truth: Array) -> Floats:
    """(R, K) by how much values are too high."""
    return np.asarray(values.reshape(len(values), -1).astype(np.float64) - truth.reshape(len(truth), -1))
