"""Shadows and the live fusion by labels, in a fusion replica: what both said is remembered until labels come for it.

That is of answers of a while, as many as ``MOST_BYTES`` hold; later labels count in what ``judge_shadows`` reads of the
whole record. All but handing over is done by a thread of its own, which also looks what labels there are; while that
waits for the store, what is handed over beyond as many bytes is not judged.
"""

# R rows, C classes

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.label_files import FollowedLabels, read_rows
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.rollout.confidence_sequence import mean_within
from quorate.fusion.evaluation.measures import LEAST_PROBABILITY

Array = NDArray[Any]
_log = logging.getLogger(__name__)
# What is remembered; how often labels are looked for; labels that are kept until it is known what was said.
MOST_BYTES, LOOK_S, MOST_EARLY = 16 << 20, 2.0, 10_000
# A shadow that is no better is called better with this probability at most, however often one looks.
ALPHA = 0.05
# By task, how far an answer is from the truth.
METRICS: Mapping[str, str] = {"classification": "log_loss", "binary": "log_loss", "regression": "mae"}


@dataclass
class JudgedSums:
    """A shadow and the live fusion on labelled rows that both answer, as sums that doors add up.

    Attributes:
        metric: what is lost is counted in; ``live`` and ``shadow`` lose, over ``rows`` of so many ``answers``.
        gains_squared: the sum over answers of what the shadow gains, squared; likewise ``gains_by_rows`` and
            ``rows_squared``: rows of one answer are not taken as independent.
    """

    metric: str = ""
    rows: int = 0
    answers: int = 0
    live: float = 0.0
    shadow: float = 0.0
    gains_squared: float = 0.0
    gains_by_rows: float = 0.0
    rows_squared: float = 0.0

    def joined(self, other: JudgedSums) -> JudgedSums:
        """Both, as one."""
        names = [one.name for one in fields(self) if one.name != "metric"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return JudgedSums(self.metric or other.metric, **sums)

    @property
    def gain(self) -> float:
        """How much less the shadow loses on a row, in the mean."""
        return (self.live - self.shadow) / self.rows if self.rows else 0.0

    @property
    def within(self) -> float:
        """How far that is from what it would be on all rows to come: at all looks together, but for ``ALPHA``."""
        if self.answers < 2:
            return math.inf
        # Each answer's part in the deviation of the ratio of two sums.
        gain = self.gain
        squares = self.gains_squared - 2 * gain * self.gains_by_rows + gain**2 * self.rows_squared
        deviation = math.sqrt(max(squares, 0.0) / self.answers) * self.answers / self.rows
        return mean_within(deviation, self.answers, ALPHA)

    def to_json(self) -> dict[str, Any]:
        """In JSON's types, with what follows of it: bounds of the gain are None where nothing is known of them."""
        gain, within = self.gain, self.within
        bounds = (gain - within, gain + within) if math.isfinite(within) else (None, None)
        return {**asdict(self), "gain": gain, "least": bounds[0], "most": bounds[1]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JudgedSums:
        """What ``to_json`` gave, of another version, too."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass
class Said:
    """What was said of the rows of some answers.

    Attributes:
        task, classes, output: of the fusions.
        ids: of the answers, and ``counts`` how many rows each has, one behind the other.
        live: (R, ...) values, and of shadows by name; with each (R,) which rows it answers.
    """

    task: str
    classes: tuple[str, ...]
    output: str
    ids: Sequence[str]
    counts: Sequence[int]
    live: tuple[Array, NDArray[np.bool_]]
    shadows: Mapping[str, tuple[Array, NDArray[np.bool_]]] = field(default_factory=dict)

    def knows(self, label: Label) -> bool:
        """Whether a label is of these classes, or of values where there are none."""
        return set(self.classes).issuperset(label.classes) and bool(self.classes) != bool(label.values)

    @property
    def nbytes(self) -> int:
        """About what it holds."""
        held = (self.live, *self.shadows.values())
        return sum(values.nbytes + said.nbytes for values, said in held) + 300 * len(self.ids)


@dataclass
class _Answer:
    """One that labels may come for.

    Attributes:
        labelled: its rows that have one, and which.
        gains: by shadow, what it has gained on how many of them.
    """

    said: Said
    start: int
    rows: int
    labelled: dict[int, Label] = field(default_factory=dict)
    gains: dict[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Wanted:
    """Shadows that are judged from now on; whether all counts start anew."""

    shadows: frozenset[str]
    anew: bool


class LabelJudge:
    """Judges by the labels of one record. Its methods are called on the event loop, but for those of the thread.

    Attributes:
        sums: by shadow and output.
    """

    def __init__(self, location: str):
        """Args:
        location: of the ensemble's record.
        """
        self._location = location
        self.sums: dict[tuple[str, str], JudgedSums] = {}
        self._queue: queue.SimpleQueue[Said | _Wanted | None] = queue.SimpleQueue()
        self._wanted: frozenset[str] = frozenset()
        # Shadows with members of their own say theirs apart from the others.
        self._answers: dict[tuple[str, str], list[_Answer]] = {}
        self._early: dict[tuple[str, str], list[tuple[int, Label]]] = {}
        self._held: deque[Said] = deque()
        self._held_bytes = 0
        self._labels: FollowedLabels | None = None
        self._given_bytes = self._taken_bytes = 0  # each is written by one thread alone
        self._thread = threading.Thread(target=self._run, name="shadow-labels", daemon=True)
        self._thread.start()

    def remember(self, said: Said) -> None:
        """Judge this when labels come."""
        if self._given_bytes - self._taken_bytes <= MOST_BYTES:
            self._given_bytes += said.nbytes
            self._queue.put(said)

    def use(self, shadows: Iterable[str], anew: bool) -> None:
        """Judge these shadows from now on; ``anew`` where another revision is live."""
        self._queue.put(_Wanted(frozenset(shadows), anew))

    def close(self) -> None:
        """End; nothing is waited for."""
        self._queue.put(None)

    # -- on the thread

    def _run(self) -> None:
        self._labels = self._opened()
        looked_at = -math.inf
        while True:
            with contextlib.suppress(queue.Empty):
                given = self._queue.get(timeout=LOOK_S)
                if given is None:
                    return
                if isinstance(given, Said):
                    self._taken_bytes += given.nbytes
                    self._remember(given)
                else:
                    self._use(given)
            if self._answers and time.monotonic() - looked_at >= LOOK_S:
                looked_at = time.monotonic()
                try:
                    self._labels = self._labels or FollowedLabels(RecordFolder(self._location))
                    self._look(self._labels)
                except Exception as error:  # whatever a store raises, the next look may be better
                    _log.warning("labels in %s cannot be read, to judge shadows: %s", self._location, error)

    def _opened(self) -> FollowedLabels | None:
        """Labels from now on: those that are there already are of answers before; None where the store does not say."""
        try:
            labels = FollowedLabels(RecordFolder(self._location))
            for file in labels.look():
                labels.pass_over(file)
        except Exception:  # at the first look it is told, and all are read
            return None
        return labels

    def _use(self, wanted: _Wanted) -> None:
        self._wanted = wanted.shadows
        self.sums = {key: one for key, one in self.sums.items() if key[0] in self._wanted and not wanted.anew}
        if wanted.anew:
            self._answers.clear()
            self._held.clear()
            self._held_bytes = 0

    def _remember(self, said: Said) -> None:
        at, sums = 0, dict(self.sums)
        for answer, rows in zip(said.ids, said.counts, strict=True):
            key = answer, said.output
            found, beside = _Answer(said, at, rows), self._answers.setdefault(key, [])
            at += rows
            for row, label in (*(beside[0].labelled.items() if beside else ()), *self._early.pop(key, ())):
                self._judge(sums, found, row, label)
            beside.append(found)
        self.sums = sums
        self._held.append(said)
        self._held_bytes += said.nbytes
        while self._held_bytes > MOST_BYTES and len(self._held) > 1:
            oldest = self._held.popleft()
            self._held_bytes -= oldest.nbytes
            for answer in oldest.ids:
                left = [one for one in self._answers.pop((answer, oldest.output), ()) if one.said is not oldest]
                if left:
                    self._answers[answer, oldest.output] = left

    def _look(self, labels: FollowedLabels) -> None:
        """Judge by the labels that are new."""
        sums = dict(self.sums)
        for row in (row for batch in labels.new(labels.look()) for row in read_rows(batch)):
            key = row.id, row.output
            if key in self._answers:
                for answer in self._answers[key]:
                    self._judge(sums, answer, row.row, row.label)
                continue
            self._early.setdefault(key, []).append((row.row, row.label))
            if len(self._early) > MOST_EARLY:
                del self._early[next(iter(self._early))]
        self.sums = sums

    def _judge(self, sums: dict[tuple[str, str], JudgedSums], answer: _Answer, row: int, label: Label) -> None:
        said, at = answer.said, answer.start + row
        if row >= answer.rows or row in answer.labelled or not said.knows(label):
            return
        answer.labelled[row] = label  # of two labels the first counts
        truth = true_arrays(said.classes, said.task, [label])[0]
        values, answered = said.live
        lost = _lost(said.task, values[at], truth)
        for name, (others, they) in said.shadows.items() if answered[at] else ():
            if not they[at] or name not in self._wanted:
                continue
            other, key = _lost(said.task, others[at], truth), (name, said.output)
            before, rows = answer.gains.get(name, (0.0, 0))
            after = before + lost - other
            answer.gains[name] = after, rows + 1
            added = JudgedSums(
                METRICS[said.task], 1, int(rows == 0), lost, other, after**2 - before**2,
                after * (rows + 1) - before * rows, float((rows + 1) ** 2 - rows**2),
            )  # fmt: skip
            sums[key] = sums.get(key, JudgedSums()).joined(added)


def _lost(task: str, values: Array, truth: Any) -> float:
    if METRICS[task] == "log_loss":
        return -math.log(max(float(values[int(truth)]), LEAST_PROBABILITY))
    return float(np.abs(np.asarray(values, np.float64).reshape(-1) - np.reshape(truth, -1)).mean())
