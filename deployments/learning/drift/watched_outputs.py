"""The live revision under watch in a replica, and who is told: metrics, the log, a webhook. On one thread."""

# M members, R rows

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import numpy as np

from quorate.deployments.engine.revision import Revision
from quorate.deployments.errors import SpecError
from quorate.deployments.learning.blocks import Block
from quorate.deployments.learning.drift.kept_reference import keep_learned, kept_learned, load_references
from quorate.deployments.learning.drift.labelled_rows import OwnLabels
from quorate.deployments.learning.drift.monitors import Monitors
from quorate.deployments.learning.drift.naming import by_kind, sentence
from quorate.deployments.learning.drift.reference import KINDS, Reference
from quorate.deployments.learning.drift.rows import Rows
from quorate.deployments.learning.drift.sequential_tests import Change
from quorate.deployments.learning.drift.webhook import Webhook
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.shadows.fitting import views_of
from quorate.deployments.metrics.drift_alarms import DriftAlarms
from quorate.deployments.spec.fields.drift import DriftSpec

_log = logging.getLogger(__name__)
# Answers that are looked at without a pause, and the pause: the event loop wants the interpreter back.
SLICE_ANSWERS, PAUSE_S = 16, 0.002
# How often it is looked for new labels, on a disk and in a store.
LABELS_S, STORE_LABELS_S = 2.0, 30.0
# Revisions whose answers may still get labels.
REMEMBERED = 8
# What has changed is told together: one cause moves many statistics, one after another.
TELL_S = 2.0


class WatchedOutputs:
    """Monitors of a replica.

    Attributes:
        told: how they stand, in JSON's types; another object each time.
    """

    def __init__(self, ensemble: str, replica: str, settings: DriftSpec, alarms: DriftAlarms):
        self._ensemble, self._replica, self._spec, self._alarms = ensemble, replica, settings, alarms
        self._webhook = None if settings.webhook is None else Webhook(settings.webhook, alarms.called)
        self._monitors = Monitors(settings)
        self._record: RecordFolder | None = None
        self._kept = False
        self._labels: OwnLabels | None = None
        self._labels_of, self._read_at = "", 0.0
        self._revisions: dict[str, Revision] = {}
        self._changes: dict[str, list[Change]] = {}
        self._tell_at = self._told_at = 0.0
        self.told: dict[str, Any] = self._monitors.report()

    def follow(self, revision: Revision) -> None:
        """Watch another revision: what is the same of its members goes on."""
        self._tell()
        self._kept = False
        self._monitors.follow(revision, self._references(revision))
        self._revisions = dict([*self._revisions.items(), (revision.name, revision)][-REMEMBERED:])
        self._follow_labels(revision)
        watched = self._monitors.by_output.items()
        self._alarms.watch(sorted((name, *key) for name, one in watched for key in one.watched))
        for name, one in watched:
            self._alarms.now(name, by_kind(one.named()))
        self._show()

    def see(self, block: Block) -> None:
        """Look at answers."""
        revision = self._monitors.revision
        name = block.kind.output if block.revision.whole is not None else ""
        if revision is None or views_of(revision).get(name) is not block.revision:
            return  # it was handed over as another went live
        rows = rows_of(block)
        starts = np.flatnonzero(np.diff(rows.answers, prepend=-1))[::SLICE_ANSWERS].tolist()
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            self._note(name, self._monitors.see(name, rows.part(slice(start, stop))))
            time.sleep(PAUSE_S)
        self._alarms.looked("watched", len(block.ids))
        self._keep()

    def tick(self) -> None:
        """Tell what has changed, when it is time: call this about once a second."""
        now = time.monotonic()
        if self._changes and now >= self._tell_at:
            self._tell()
        every_s = STORE_LABELS_S if "://" in self._labels_of else LABELS_S
        if self._labels is not None and now - self._read_at >= every_s:
            self._read_labels(self._labels)
        if now - self._told_at >= 1.0:
            self._show()

    def close(self) -> None:
        """Tell nothing more."""
        self._tell()
        if self._webhook is not None:
            self._webhook.close()

    def _follow_labels(self, revision: Revision) -> None:
        record = revision.spec.record
        place = "" if record is None else record.folder_of(self._ensemble)
        if place == self._labels_of:
            return
        self._labels_of, self._labels = place, None
        if place and any(KINDS[name].labelled for name in self._spec.statistics):
            with contextlib.suppress(OSError, ValueError):  # the recorder says so
                self._labels = OwnLabels(place, self._replica)

    def _read_labels(self, labels: OwnLabels) -> None:
        """Look at rows whose labels have come to this door."""
        try:
            for part in labels.new():
                for start in range(0, len(part.rows), SLICE_ANSWERS):
                    some = part._replace(rows=part.rows.part(slice(start, start + SLICE_ANSWERS)))
                    self._note(part.output, self._monitors.see_labelled(some, self._revisions))
                    time.sleep(PAUSE_S)
        except OSError as error:  # looked at again soon
            _log.warning("labels for %s cannot be read for drift: %s", self._ensemble, error)
        self._read_at = time.monotonic()

    def _note(self, output: str, changes: list[Change]) -> None:
        if not changes:
            return
        if not self._changes:
            self._tell_at = time.monotonic() + TELL_S
        self._changes.setdefault(output, []).extend(changes)
        self._alarms.now(output, by_kind(self._monitors.by_output[output].named()))

    def _tell(self) -> None:
        changes, self._changes = self._changes, {}
        revision = self._monitors.revision
        for output, found in changes.items():
            assert revision is not None
            names = self._monitors.by_output[output].named()
            where = f"{self._ensemble}{f' ({output})' if output else ''}"
            said = sentence(found, names)
            (_log.warning if any(one.raised for one in found) else _log.info)("drift of %s: %s", where, said)
            if self._webhook is not None:
                self._webhook.send(
                    {
                        "text": f"drift of {where}: {said}", "ensemble": self._ensemble, "output": output,
                        "revision": revision.name, "door": self._replica,
                        "named": [one.to_json() for one in names], "changes": [one.to_json() for one in found],
                    }
                )  # fmt: skip

    def _show(self) -> None:
        self._told_at, self.told = time.monotonic(), self._monitors.report()

    def _references(self, revision: Revision) -> dict[str, Reference]:
        """What is known beforehand: of the file that the spec names, or learned by a door before."""
        record, self._record = revision.spec.record, None
        if self._spec.reference is not None:
            try:
                return load_references(revision.folder / self._spec.reference)
            except SpecError as error:
                _log.warning("%s; the first answers of %s are the reference", error, self._ensemble)
                return {}
        try:
            if record is not None:
                self._record = RecordFolder(record.folder_of(self._ensemble))
        except (OSError, ValueError):  # the recorder says so
            return {}
        return {} if self._record is None else kept_learned(self._record, revision.name)

    def _keep(self) -> None:
        """Put what was learned beside the record, once; what another door put there first stands."""
        revision = self._monitors.revision
        if self._kept or self._record is None or revision is None:
            return
        learned = self._monitors.learned()
        if learned is None:
            return
        if kept_learned(self._record, revision.name):
            self.follow(revision)
            self._kept = True
            return
        self._kept = True
        try:
            keep_learned(self._record, revision.name, learned)
        except OSError as error:
            _log.warning("what first answers of %s were like cannot be kept: %s", self._ensemble, error)


def rows_of(block: Block) -> Rows:
    """A block's rows."""
    rows, asked = slice(0, block.rows), len(block.revision.asked)
    said = np.ones(block.rows, np.bool_) if block.abstained is None else ~block.abstained[rows]
    answers = np.repeat(np.arange(len(block.counts)), block.counts)
    outputs, states = block.outputs[:, rows], block.states[:asked, rows]
    return Rows(outputs, states, block.values[rows], said, answers, block.times[rows])
