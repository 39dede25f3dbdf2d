"""Labels for answers, on a thread of their own: those that wait are checked, written together, then acknowledged.

What the disk does in a millisecond it does once for all that came meanwhile.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
# Labels that wait to be written, or for what others say of them; more are refused. And those that are written together.
MAX_WAITING, COMMIT_LABELS = 200_000, 20_000
# How often it is looked which answers have gone, where no label asks.
LOOK_S = 30.0
# How often it is read what other replicas wrote. What two take within that time both take; the reader tells them apart.
OTHERS_S = 0.1
# Requests with labels for answers of other folders, for which others are asked at the same time.
ASKING = 4

# What becomes of a label, and why.
Verdict = tuple[str, str]
# Given labels for answers that none who records here has given: what others say of them, None where there are none.
Others = Callable[[Sequence[GivenLabel]], Sequence[Verdict] | None]


class Counts(Protocol):
    """What becomes of labels."""

    def labelled(self, verdict: str, labels: int) -> None:
        """Count labels with one of ``VERDICTS``; one thread at a time."""


@dataclass
class _Job:
    """Labels of one request, and what becomes of each."""

    spec: EnsembleSpec
    given: Sequence[GivenLabel]
    others: Others | None = None
    future: Future[FeedbackReply] = field(default_factory=Future)
    verdicts: list[Verdict] = field(default_factory=list)


class Feedback:
    """Takes labels for one record."""

    def __init__(self, ensemble: str, settings: RecordSpec, replica: str, counts: Counts):
        self._ensemble, self._settings, self._replica = ensemble, settings, replica
        self._counts = counts
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._put = self._taken = 0  # each is written by one thread alone
        self._passed_on = 0  # labels of requests for which others are being asked
        self._seen = Seen()
        self._looked_at = self._read_at = -LOOK_S
        self._asking = ThreadPoolExecutor(ASKING, thread_name_prefix="labels-elsewhere")
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="labels", daemon=True)
        self._thread.start()

    def give(
        self, spec: EnsembleSpec, given: Sequence[GivenLabel], others: Others | None = None
    ) -> Future[FeedbackReply]:
        """Take labels; the future has its result when those that are accepted outlive this machine.

        Args:
            spec: the live one: its classes and task say what a label is.
            others: are asked where nobody who records here has given an answer; called on another thread.

        Raises:
            OverloadedError: too many wait already.
        """
        return self._enqueued(_Job(spec, given, others)).future

    def judge(self, spec: EnsembleSpec, given: Sequence[GivenLabel]) -> Future[list[Verdict]]:
        """The same, for another door that has been given them: the verdict on each."""
        found: Future[list[Verdict]] = Future()
        job = self._enqueued(_Job(spec, given))

        def told(done: Future[FeedbackReply]) -> None:
            error = done.exception()
            if found.set_running_or_notify_cancel():  # else who wanted to know has gone
                found.set_result(job.verdicts) if error is None else found.set_exception(error)

        job.future.add_done_callback(told)
        return found

    def _enqueued(self, job: _Job) -> _Job:
        if self._put - self._taken + self._passed_on > MAX_WAITING:
            raise OverloadedError("the queue of labels", MAX_WAITING, 1.0)
        self._put += len(job.given)
        self._queue.put(job)
        return job

    def close(self, timeout_s: float = 5.0) -> None:
        """End when what waits is written."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        self._asking.shutdown(wait=False)

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
        folder = RecordFolder(self._settings.folder_of(self._ensemble))
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
            strangers = self._strangers(known, job) if job.others is not None else []
            if strangers:
                with self._counting:
                    self._passed_on += len(job.given)
                self._asking.submit(self._ask_others, job, strangers)
            else:
                self._reply(job)

    def _strangers(self, known: KnownAnswers, job: _Job) -> list[int]:
        """The places of labels for answers of replicas that do not record here."""
        ids = [(place, parse_answer_id(given.id)) for place, given in enumerate(job.given)]
        return [place for place, answer in ids if answer is not None and not known.knows(answer.replica)]

    def _ask_others(self, job: _Job, places: Sequence[int]) -> None:
        """On a thread of its own: what they take they write and count themselves."""
        told: Sequence[Verdict] | None = None
        try:
            assert job.others is not None
            told = job.others([job.given[place] for place in places])
        except Exception as error:  # the labels stay unknown
            _log.warning("labels for %s could not be passed on: %s", self._ensemble, error)
        for place, verdict in zip(places, told or (), strict=False):
            job.verdicts[place] = verdict
        with self._counting:
            self._passed_on -= len(job.given)
        self._reply(job, places if told is not None else ())

    def _reply(self, job: _Job, counted: Sequence[int] = ()) -> None:
        """Say what became of labels, and count those that others have not counted."""
        elsewhere = {place for place in counted if job.verdicts[place][0] != "unknown"}
        own = Counter(verdict for place, (verdict, _) in enumerate(job.verdicts) if place not in elsewhere)
        with self._counting:
            for verdict, count in own.items():
                self._counts.labelled(verdict, count)
        reply = FeedbackReply.of((given, *verdict) for given, verdict in zip(job.given, job.verdicts, strict=True))
        if job.future.set_running_or_notify_cancel():  # else who gave them has gone
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
