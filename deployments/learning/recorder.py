"""Writes answers to a record: taken note of on the event loop, written by a thread that no answer waits for.

Between the two stand blocks, no more than ``QUEUE_BYTES`` of them: where the store is slower than answers come, or
takes nothing, blocks are dropped, counted and spoken of.
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from quorate.deployments.engine.requests.request import Request
from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.answer_columns import AnswersMetadata, columns_of, metadata_of
from quorate.deployments.learning.arrow_file import ArrowFile
from quorate.deployments.learning.blocks import BLOCK_BYTES, Block, BlockKind, OpenBlocks
from quorate.deployments.learning.expiry import Expiry
from quorate.deployments.learning.folder import ANSWERS, PLACES, SUFFIX, RecordFolder
from quorate.deployments.learning.kept_revisions import keep_revision
from quorate.deployments.learning.known_answers import answers_name
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.fusion.base import FusedArrays

Array = NDArray[Any]
_log = logging.getLogger(__name__)
# Blocks that wait for the store; beyond that they are dropped.
QUEUE_BYTES = 64 << 20
# Kinds of blocks that are filled at a time: a live revision, a canary, their outputs, some lengths of tokens.
MAX_KINDS = 16
# A file is closed when it is so long, or so old: of a store whose files are put whole, what is not put yet may be lost.
FILE_BYTES, LOCAL_FILE_S, STORE_FILE_S = 32 << 20, 3600.0, 30.0
# What may be held is at least so many files: one of them goes at a time.
FILES_AT_LEAST = 8
# How often the thread looks at what is to be closed, and says what was dropped.
LOOK_S, TELL_S = 1.0, 60.0
# What is left when the replica stops is waited for so long.
STOP_TIMEOUT_S = 5.0


class Counts(Protocol):
    """What becomes of answers that were to be recorded."""

    def recorded(self, outcome: str, answers: int) -> None:
        """Count answers: ``kept``, ``dropped_slow`` where the store was too slow, ``dropped_store`` where it failed."""


@dataclass
class _Open:
    """A file that blocks of one kind are written to.

    Attributes:
        pending: answers in it that are not in the store before it is closed.
    """

    file: ArrowFile
    pending: int = 0
    began: float = field(default_factory=time.monotonic)


class Recorder:
    """A ``Keeper``. What is not said otherwise is called on the event loop.

    Attributes:
        held: see ``Expiry``.
    """

    def __init__(self, ensemble: str, settings: RecordSpec, replica: str, counts: Counts):
        self._ensemble, self._settings, self._replica, self._counts = ensemble, settings, replica, counts
        self._blocks = OpenBlocks(self._hand_over)
        self._calls = itertools.count()
        self._queue: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
        # Each is written by one thread alone.
        self._queued_bytes = self._taken_bytes = 0
        self._open: dict[AnswersMetadata, _Open] = {}
        self._kept_revisions: set[str] = set()
        self._dropped, self._told_at = 0, -TELL_S
        self.held: tuple[int, float] | None = None
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def wants(self) -> bool:
        share = self._settings.share
        return share >= 1 or random.random() < share

    def keep(
        self, revision: Revision, outputs: Array, states: Array, fused: FusedArrays,
        answered: Sequence[tuple[Request, int]], upstream: Mapping[str, MemberReply], start: int,
    ) -> None:  # fmt: skip
        signature = answered[0][0].signature if self._settings.inputs else ()
        kind, rows = BlockKind.of(revision, outputs, states, fused, signature), outputs.shape[1]
        block = self._blocks.with_room(kind, rows)
        if block is None:
            if len(self._blocks) >= MAX_KINDS:
                self.tick()
            block = self._blocks.begin(kind, revision, rows)
        block.add(next(self._calls), outputs, states, fused, answered, upstream, start)
        if block.input_bytes > BLOCK_BYTES:
            self._blocks.end(kind)

    def tick(self) -> None:
        """Hand over what there is: call this about twice a second."""
        self._blocks.end_all()

    def close(self) -> None:
        """Write what there is, and end; from any thread, when nothing is kept any more."""
        self.tick()
        self._queue.put(None)
        self._thread.join(STOP_TIMEOUT_S)

    def _hand_over(self, block: Block) -> None:
        if self._queued_bytes - self._taken_bytes > QUEUE_BYTES:
            self._lost(len(block.ids), "dropped_slow", "it takes less than there is")
            return
        self._queued_bytes += block.nbytes
        self._queue.put(block)

    # -- on the thread

    def _run(self) -> None:
        folder: RecordFolder | None = None
        expiry: Expiry | None = None
        while True:
            try:
                block = self._queue.get(timeout=LOOK_S)
            except queue.Empty:
                self._tidy(expiry)
                continue
            if block is None:
                break
            try:
                if folder is None:
                    folder = RecordFolder(self._settings.folder_of(self._ensemble))
                    expiry = Expiry(folder, self._settings.keep_for_s, self._settings.max_bytes)
                self._write(folder, block)
            except Exception as error:  # whatever a store raises, the next block may be written
                self._lost(len(block.ids), "dropped_store", str(error))
            finally:
                self._taken_bytes += block.nbytes
            self._tidy(expiry)
        self._close_files(old=False)

    def _tidy(self, expiry: Expiry | None) -> None:
        self._close_files(old=True)
        try:
            if expiry is not None:
                expiry.look()
                self.held = expiry.held
        except Exception as error:  # looked at again later
            _log.warning("what is too old in %s cannot be deleted: %s", self._settings.folder, error)

    def _write(self, folder: RecordFolder, block: Block) -> None:
        about = metadata_of(block, self._ensemble, self._settings.exact)
        batch = columns_of(block, about)
        if block.revision.name not in self._kept_revisions:
            keep_revision(folder, block.revision.whole or block.revision.spec, block.revision.folder)
            self._kept_revisions.add(block.revision.name)
        found = self._open.get(about)
        # Inputs of another shape; or it was the oldest of all and is deleted.
        if found is not None and (found.file.schema != batch.schema or found.file.file.gone):
            self._close(self._open.pop(about))
            found = None
        if found is None:
            if len(self._open) >= MAX_KINDS:
                self._close_files(old=False)
            name = answers_name(self._replica, next(PLACES), block.ids) + SUFFIX
            found = self._open[about] = _Open(ArrowFile(folder.grow(folder.path(ANSWERS, name)), batch.schema))
        try:
            found.file.write(batch)
        except OSError:
            del self._open[about]
            found.file.abandon()
            raise
        if folder.local:
            self._counts.recorded("kept", len(block.ids))
        else:
            found.pending += len(block.ids)
        if found.file.nbytes >= min(FILE_BYTES, self._settings.max_bytes // FILES_AT_LEAST):
            self._close(self._open.pop(about))

    def _close_files(self, old: bool) -> None:
        """All, or those that are old enough."""
        now = time.monotonic()
        for about, found in list(self._open.items()):
            most_s = LOCAL_FILE_S if "://" not in self._settings.folder else STORE_FILE_S
            if not old or now - found.began > most_s:
                self._close(self._open.pop(about))

    def _close(self, found: _Open) -> None:
        try:
            found.file.close()
            self._counts.recorded("kept", found.pending)
        except OSError as error:  # a local file has its rows without a footer, too
            if found.pending:
                self._lost(found.pending, "dropped_store", str(error))

    # -- on either

    def _lost(self, answers: int, outcome: str, why: str) -> None:
        self._counts.recorded(outcome, answers)
        self._dropped += answers
        now = time.monotonic()
        if now - self._told_at >= TELL_S:
            self._told_at = now
            _log.warning(
                "answers of %s are not recorded: %s does not take them (%s); %d since the last such line. Make room "
                "there, or change record.folder or record.share",
                self._ensemble, self._settings.folder, why, self._dropped,
            )  # fmt: skip
            self._dropped = 0
