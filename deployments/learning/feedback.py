"""Labels for answers, on a thread of their own: those that wait are checked, written together, then acknowledged.

What the disk does in a millisecond it does once for all that came meanwhile.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from quorate.deployments.errors import OverloadedError, RequestError, UnavailableError
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.known_answers import KnownAnswers
from quorate.deployments.learning.label_files import LabelFiles, LabelRow
from quorate.deployments.learning.labels import Label, read_label
from quorate.deployments.learning.seen import Seen
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.deployments.wire.answer_id import parse_answer_id
from quorate.deployments.wire.feedback import FeedbackReply, GivenLabel

_log = logging.getLogger(__name__)
# Labels that wait to be written; more are refused. And those that are written together.
MAX_WAITING, COMMIT_LABELS = 200_000, 20_000
# How often it is looked which answers have gone, where no label asks.
LOOK_S = 30.0
# How often it is read what other replicas wrote. What two take within that time both take; the reader tells them apart.
OTHERS_S = 0.1


class Counts(Protocol):
    """What becomes of labels."""

    def labelled(self, verdict: str, labels: int) -> None:
        """Count labels with one of ``VERDICTS``."""


@dataclass
class _Job:
    """Labels of one request, and what becomes of each."""

    spec: EnsembleSpec
    given: Sequence[GivenLabel]
    future: Future[FeedbackReply] = field(default_factory=Future)
    verdicts: list[tuple[str, str]] = field(default_factory=list)


class Feedback:
    """Takes labels for one record."""

    def __init__(self, ensemble: str, settings: RecordSpec, replica: str, counts: Counts):
        self._ensemble, self._settings, self._replica = ensemble, settings, replica
        self._counts = counts
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._put = self._taken = 0  # each is written by one thread alone
        self._seen = Seen()
        self._looked_at = self._read_at = -LOOK_S
        self._thread = threading.Thread(target=self._run, name="labels", daemon=True)
        self._thread.start()

    def give(self, spec: EnsembleSpec, given: Sequence[GivenLabel]) -> Future[FeedbackReply]:
        """Take labels; the future has its result when those that are accepted outlive this machine.

        Args:
            spec: the live one: its classes and task say what a label is.

        Raises:
            OverloadedError: too many wait already.
        """
        if self._put - self._taken > MAX_WAITING:
            raise OverloadedError("the queue of labels", MAX_WAITING, 1.0)
        self._put += len(given)
        job = _Job(spec, given)
        self._queue.put(job)
        return job.future

    def close(self, timeout_s: float = 5.0) -> None:
        """End when what waits is written."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    # -- on the thread

    def _run(self) -> None:
        files = known = None
        try:
            files, known = self._opened()
        except Exception as error:  # said again to whoever gives a label; tried again then
            _log.warning("the record of %s at %s cannot be used: %s", self._ensemble, self._settings.folder, error)
        while jobs := self._next_jobs():
            try:
                if files is None or known is None:
                    files, known = self._opened()
                self._commit(files, known, jobs)
            except Exception as error:
                self._refuse(jobs, error)
        if files is not None:
            files.close()

    def _opened(self) -> tuple[LabelFiles, KnownAnswers]:
        folder = RecordFolder(f"{self._settings.folder.rstrip('/')}/{self._ensemble}")
        files = LabelFiles(folder, self._replica)
        files.announce()
        known = KnownAnswers(folder, self._replica, self._settings.keep_for_s)
        known.look()
        return files, known

    def _next_jobs(self) -> list[_Job]:
        """All that wait, up to a number of labels; none at the end."""
        jobs: list[_Job] = []
        labels, job = 0, self._queue.get()
        while job is not None:
            jobs.append(job)
            labels += len(job.given)
            if labels >= COMMIT_LABELS:
                break
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
        if job is None and jobs:
            self._queue.put(None)  # for the next turn
        self._taken += labels
        return jobs

    def _commit(self, files: LabelFiles, known: KnownAnswers, jobs: Sequence[_Job]) -> None:
        if time.monotonic() - self._read_at > OTHERS_S:
            for row in files.new_rows():
                self._seen.add(*_hashes(row.id, row.row, row.output, row.label))
            self._read_at = time.monotonic()
        self._look(known, jobs)
        now_us = time.time_ns() // 1000
        new: dict[int, tuple[int, LabelRow]] = {}
        for job in jobs:
            self._check(known, job, new, now_us)
        if new:
            files.append([row for _, row in new.values()])
        for key, (content, _) in new.items():
            self._seen.add(key, content)
        for job in jobs:
            reply = FeedbackReply.of((g, *verdict) for g, verdict in zip(job.given, job.verdicts, strict=True))
            for verdict, count in reply.counts.items():
                self._counts.labelled(verdict, count)
            job.future.set_result(reply)

    def _look(self, known: KnownAnswers, jobs: Sequence[_Job]) -> None:
        """Look which answers there are, now and then and where an id is of a replica that is not known."""
        named = (parse_answer_id(given.id) for job in jobs for given in job.given)
        due = time.monotonic() - self._looked_at > LOOK_S
        if due or any(answer is not None and not known.knows(answer.replica) for answer in named):
            known.look()
            self._looked_at = time.monotonic()

    def _check(self, known: KnownAnswers, job: _Job, new: dict[int, tuple[int, LabelRow]], now_us: int) -> None:
        """The verdict on each label of a request; those that are to be written go into ``new``."""
        hashed: list[tuple[int, int, LabelRow] | tuple[str, str]] = []
        for given in job.given:
            refused = known.refusal(given.id, given.row)
            if refused is not None:
                hashed.append(refused)
                continue
            try:
                label = read_label(job.spec, given)
            except RequestError as error:
                hashed.append(("invalid", str(error)))
                continue
            output = given.output if job.spec.outputs else ""
            row = LabelRow(given.id, given.row, output, label, now_us)
            hashed.append((*_hashes(given.id, given.row, output, label), row))
        before = iter(self._seen.find([one[0] for one in hashed if len(one) == 3]))
        for one in hashed:
            if len(one) == 2:
                job.verdicts.append(one)
                continue
            key, content, row = one
            known_content = next(before)
            if known_content is None and key in new:
                known_content = new[key][0]
            if known_content is None:
                new[key] = content, row
                job.verdicts.append(("accepted", ""))
            elif known_content == content:
                job.verdicts.append(("again", ""))
            else:
                job.verdicts.append(("contradicting", "the row has another label already, which stands"))

    def _refuse(self, jobs: Sequence[_Job], error: Exception) -> None:
        _log.warning("labels for %s cannot be kept in %s: %s", self._ensemble, self._settings.folder, error)
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(UnavailableError("labels cannot be written now; send them again later"))


def _hashes(answer: str, row: int, output: str, label: Label) -> tuple[int, int]:
    """What a row is known by, and what its label says, as numbers of this process."""
    return hash(f"{answer}/{row}/{output}"), hash(label)
