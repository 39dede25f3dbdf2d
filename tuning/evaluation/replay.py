"""Recorded answers computed again, or what another fusion would have answered; and how good both are by the labels."""

# M members, R rows, C classes

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.display import Displayed, Table
from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.errors import RequestError, SpecError
from quorate.deployments.learning.drift.from_record import drift_of_record
from quorate.deployments.learning.drift.report import DriftReport
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.learning.online.bandit.from_record import PolicyHistory, bandits_from_record
from quorate.deployments.learning.online.from_record import learn_from_record, learns, members_read
from quorate.deployments.learning.online.history import History
from quorate.deployments.learning.online.relabelling.matrix import answers_by
from quorate.deployments.learning.reading import Record, RecordedRows
from quorate.deployments.learning.replaying import Replayed, replay_rows
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.types import Task
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.errors import QuorateError
from quorate.tuning.evaluation.judged_policy import JudgedPolicy, judge_policy
from quorate.tuning.evaluation.metrics.metric import RowMetric
from quorate.tuning.evaluation.metrics.row_metrics import row_metric

# By which answers are judged; of other tasks by their first metric.
_METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": ("log_loss", "accuracy"), "binary": ("log_loss", "accuracy"), "regression": ("rmse",),
}  # fmt: skip
# What is not a number of each row by itself.
_UNJUDGED = ("tokens", "tagging", "ranking")
RECORDED, REPLAYED, ONLINE, PUBLISHED = "recorded", "replayed", "online weights", "published weights"


@dataclass
class Score:
    """A metric's numbers of labelled rows, summed.

    Attributes:
        rows: how many.
    """

    metric: RowMetric
    rows: int = 0
    total: Any = 0.0

    def add(self, labels: NDArray[Any], fused: NDArray[Any]) -> None:
        """Count rows."""
        if len(fused):
            self.total = self.total + self.metric.rows(labels, fused, None).sum(axis=0, dtype=np.float64)
            self.rows += len(fused)

    @property
    def value(self) -> float:
        return float(self.metric.value(np.asarray(self.total / max(self.rows, 1)))) if self.rows else float("nan")


@dataclass(repr=False)
class Replay(Displayed):
    """What came of it.

    Attributes:
        revision: that answers now; empty where each answer is that of its own revision.
        answers, rows: that the record has.
        exact: rows that are the same to the bit.
        changed: of the others, those that say another class, or another value.
        unanswered: rows for which the fusion has no quorum, or that it declines.
        largest: the largest difference of a number.
        left_out: rows that could not be fused again, by why not.
        labelled: rows with a label.
        scores: by who answers (``recorded``, ``replayed``, learned weights, and each member of the record) and output,
            by metric.
        again, contradicting: labels that two replicas took at the same time, see ``Labels``.
        online: by output what came of learning weights, where that was asked; ``bandits`` of those that have one, which
            learn whom to ask.
        policy: what a bandit would have earned that other members were asked by, where the spec's rule is one.
        drift: which alarms there would have been, where that was asked.
    """

    revision: str = ""
    answers: int = 0
    rows: int = 0
    exact: int = 0
    changed: int = 0
    unanswered: int = 0
    largest: float = 0.0
    labelled: int = 0
    again: int = 0
    contradicting: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    scores: dict[tuple[str, str], dict[str, Score]] = field(default_factory=dict)
    online: dict[str, History] = field(default_factory=dict)
    bandits: dict[str, PolicyHistory] = field(default_factory=dict)
    policy: JudgedPolicy | None = None
    drift: DriftReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        plain = (
            "revision", "answers", "rows", "exact", "changed", "unanswered", "largest", "labelled", "again",
            "contradicting",
        )  # fmt: skip
        scores = [
            {"output": output, "by": who, "rows": next(iter(found.values())).rows}
            | {name: score.value for name, score in found.items()}
            for (output, who), found in self.scores.items()
        ]
        through: list[History | PolicyHistory] = [*self.online.values(), *self.bandits.values()]
        learned: dict[str, Any] = {"online": [one.to_dict() for one in through]} if through else {}
        learned |= {} if self.policy is None else {"policy": self.policy.to_dict()}
        if self.drift is not None:
            learned["drift"] = self.drift.to_dict()
        plainly = {name: getattr(self, name) for name in plain}
        return plainly | {"left_out": dict(self.left_out), "scores": scores} | learned

    def tables(self) -> Sequence[Table]:
        """How many rows are the same, and how good who is."""
        lines = [f"{self.answers} answers of {self.rows} rows, {self.exact} rows the same to the bit"]
        other = self.rows - self.exact - sum(self.left_out.values())
        if other:
            lines.append(
                f"{other} rows otherwise, by up to {self.largest:.3g}; {self.changed} say something else, "
                f"{self.unanswered} have no answer"
            )
        lines += [f"{count} rows left out: {why}" for why, count in self.left_out.items()]
        if self.contradicting:
            lines.append(f"{self.contradicting} labels contradict an earlier one of the same row, which counts")
        lines += [] if self.policy is None else self.policy.lines()
        names = list(dict.fromkeys(name for found in self.scores.values() for name in found))
        cells = [
            [output, who, str(next(iter(found.values())).rows)]
            + [f"{found[name].value:.4f}" if name in found else "" for name in names]
            for (output, who), found in self.scores.items()
        ]
        scores = [Table(["output", "by", "rows", *names], cells)] if cells else []
        more = [*self.online.values(), *self.bandits.values(), *([] if self.drift is None else [self.drift])]
        return [Table(lines=lines), *scores, *(table for one in more for table in one.tables())]


def replay(
    record: Record, spec: EnsembleSpec | None = None, folder: Path = Path(), *, online: bool = False,
    drift: bool = False,
) -> Replay:  # fmt: skip
    """Fuse all recorded rows again.

    Args:
        spec: whose fusion is to answer; each answer's own revision when None.
        folder: what the spec's paths start from.
        online: what weights learned from the labels would have answered, too, each row by those that were known then;
            the spec's weights are the first, or the first revision's. Of a bandit, whom it would have learned to ask.
        drift: which alarms its doors would have raised together, by the revisions that answered.

    Raises:
        RequestError: no row is recorded, or nothing of the spec is in the record, or there is nothing to learn from.
        SpecError: the spec's fusion cannot be built.
    """
    other = None if spec is None else build_revision(spec, folder)
    labels, found = record.labels(), Replay("" if other is None else other.name)
    found.again, found.contradicting = labels.again, labels.contradicting
    with tempfile.TemporaryDirectory(prefix="q") as scratch:
        revisions = _Revisions(record, other, Path(scratch))
        if online:
            found.bandits = bandits_from_record(record, labels, revisions.of, revisions.wrote)
            learned = learn_from_record(record, labels, revisions.of)
            found.online = {output: one for output, one in learned.items() if output not in found.bandits}
            if not found.online and not found.bandits:
                fix = "give labels for classes, several labels a row or values: quorate feedback NAME --labels FILE"
                raise RequestError(f"{record.folder.location} has no label that weights learn from; {fix}")
        if drift:
            found.drift = drift_of_record(record, labels, revisions.recorded)
        for rows in record.rows():
            found.rows += len(rows)
            found.answers += int((rows.numbers == 0).sum())
            try:
                again = replay_rows(revisions.of(rows), rows)
            except (QuorateError, SpecError) as error:
                found.left_out[str(error)] += len(rows)
                continue
            _compare(found, rows, again)
            pooled = _online(found, rows, revisions.of(rows))
            _judge(found, rows, again, labels.of(rows), pooled)
    if other is not None and not other.views and found.labelled:
        found.policy = judge_policy(record, labels, other)
    if not found.rows:
        raise RequestError(f"{record.folder.location} has labels and no answers; record some, with a share above 0")
    if sum(found.left_out.values()) == found.rows:
        raise RequestError(next(iter(found.left_out)))
    return found


class _Revisions:
    """Revisions by name and output, built once."""

    def __init__(self, record: Record, other: Revision | None, scratch: Path):
        self._record, self._other, self._scratch = record, other, scratch
        self._known: dict[str, Revision | QuorateError] = {}

    def of(self, rows: RecordedRows) -> Revision:
        """Whoever is to answer rows.

        Raises:
            RequestError: it has no such output, or is not beside the record.
        """
        found = self._other or self._kept(rows.about.revision)
        if found.views:
            if rows.about.output not in found.views:
                raise RequestError(f"the spec has no output '{rows.about.output}'; it has {', '.join(found.views)}")
            return found.views[rows.about.output]
        return found

    def recorded(self, rows: RecordedRows) -> Revision:
        """Whoever did answer rows, with all its outputs.

        Raises:
            RequestError: it is not beside the record.
        """
        return self._kept(rows.about.revision)

    def wrote(self, rows: RecordedRows) -> Revision:
        """The same with the rows' output alone; raises as ``recorded``."""
        found = self._kept(rows.about.revision)
        return found.views[rows.about.output] if found.views else found

    def _kept(self, name: str) -> Revision:
        if name not in self._known:
            try:
                self._known[name] = self._record.revision(name, self._scratch)
            except QuorateError as error:
                self._known[name] = error
        found = self._known[name]
        if isinstance(found, QuorateError):
            raise found
        return found


def _compare(found: Replay, rows: RecordedRows, again: Replayed) -> None:
    same = again.same(rows)
    found.exact += int(same.sum())
    if same.all():
        return
    said = again.answered & ~again.abstained
    found.unanswered += int((~same & ~said).sum())
    there = ~same & said
    if again.values.shape != rows.fused.shape or not there.any():
        found.changed += int(there.sum()) if again.values.shape != rows.fused.shape else 0
        return
    before, after = (a[there].reshape(int(there.sum()), -1) for a in (rows.fused, again.values))
    apart = np.abs(before.astype(np.float64) - after)
    found.largest = max(found.largest, float(apart.max()))
    if rows.about.task in ("classification", "binary"):
        found.changed += int((before.argmax(axis=1) != after.argmax(axis=1)).sum())
    elif rows.about.task == "multilabel":
        found.changed += int(((before >= 0.5) != (after >= 0.5)).any(axis=1).sum())
    else:
        found.changed += int((apart > 1e-6 * np.maximum(np.abs(before), 1.0)).any(axis=1).sum())


def _online(found: Replay, rows: RecordedRows, revision: Revision) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]:
    """What learned weights say of rows, and those that would have been live, where some member answered."""
    history = found.online.get(rows.about.output)
    if history is None or not learns(rows):
        return {}
    values, there = members_read(revision, rows)
    places = [history.members.index(name) for name in revision.asked]
    answers = {}
    at = rows.times_us
    learned = ONLINE, history.learned_at(at), history.learned_names_at(at)
    published = PUBLISHED, history.live_at(at), history.live_names_at(at)
    for who, weights, called in (learned, published):
        if weights is not None:
            shares = weights[:, places].T * there
            some = shares.sum(axis=0) > 0
            pooled = np.einsum("mr,mr...->r...", shares / np.where(some, shares.sum(axis=0), 1.0), values)
            answers[who] = answers_by(called, pooled).astype(np.float32), some
    return answers


def _judge(
    found: Replay, rows: RecordedRows, again: Replayed, labels: Sequence[Label | None],
    pooled: Mapping[str, tuple[NDArray[Any], NDArray[np.bool_]]],
) -> None:  # fmt: skip
    """Count labelled rows in the scores of all that answered them."""
    known = np.array([label is not None for label in labels], np.bool_)
    found.labelled += int(known.sum())
    about = rows.about
    if not known.any() or about.task in _UNJUDGED or about.layers != about.members:
        return
    truth = true_arrays(about.classes, about.task, [label for label in labels if label is not None])
    recorded = known if rows.abstained is None else known & ~rows.abstained
    answers = {RECORDED: (rows.fused, recorded), REPLAYED: (again.values, known & again.answered & ~again.abstained)}
    answers |= {who: (values, known & some) for who, (values, some) in pooled.items()}
    answers |= {
        name: (rows.outputs[member], known & (rows.states[member] == int(RowState.OK)))
        for member, name in enumerate(about.members)
    }
    for who, (values, there) in answers.items():
        scores = found.scores.setdefault((about.output, who), _scores(rows))
        for score in scores.values():
            score.add(truth[there[known]], values[there])


def _scores(rows: RecordedRows) -> dict[str, Score]:
    task: Any = rows.about.task
    names: tuple[str | None, ...] = _METRICS.get(task, (None,))
    metrics = [_metric(name, task, rows) for name in names]
    return {metric.name: Score(metric) for metric in metrics}


def _metric(name: str | None, task: Task, rows: RecordedRows) -> RowMetric:
    return row_metric(name, task=task, levels=rows.about.quantiles, classes=rows.about.classes)
