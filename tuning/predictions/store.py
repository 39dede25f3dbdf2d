"""Per-member probabilities, or values, of labelled rows, kept so that nothing after them needs a GPU.

``LOCATION/SPLIT/MEMBER/00000.arrow`` and its sisters hold one member's (N, C) probabilities in partitions of
consecutive rows, ``LOCATION/SPLIT/manifest.json`` what they were made from, ``rows.arrow`` there the rows' labels.
A member whose settings, weights, code or data changed is computed again, and so are the rows of a partition whose bytes
did; the others are kept. Entry points: ``PredictionStore(location).fill(spec, folder, data, "validation") ->
FillReport``, ``.read("validation", members)``, and for what does not fit into memory ``.chunks("validation", members)``
and ``.true_class("validation", members, labels)``.
"""

# M members, N rows, C classes

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs as filesystems

from quorate.deployments.records.file_system import open_folder
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_formats import REMOTE, format_of
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.labelled_outputs import LabelledOutputs
from quorate.tuning.data.mapped_arrays import mapped_array
from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.predictions.digests import code_digest, member_digest, upstream_digest
from quorate.tuning.predictions.filling import FillReport, check_shape, columns_of, row_bytes_of
from quorate.tuning.predictions.kept_rows import FILE, KeptRows, read_rows, write_rows
from quorate.tuning.predictions.manifest import Entry, describe_damage, read_manifest, write_manifest
from quorate.tuning.predictions.partitions import file_damage, map_partition, write_partition
from quorate.tuning.predictions.run_in_graph import run_in_graph, run_node
from quorate.tuning.predictions.run_member import Runner, run_in_process, tunable_members
from quorate.tuning.scoring import true_class

if TYPE_CHECKING:
    from quorate.deployments.engine.offline_graph import OfflineGraph
    from quorate.tuning.predictions.out_of_fold import OutOfFold

_log = logging.getLogger(__name__)
NEW = "not in the store yet"
PARTITION_BYTES, WINDOW_BYTES = 64 << 20, 1 << 30
Rows = slice | NDArray[np.int64]


class PredictionStore:
    """Predictions under one folder or URI; one process writes a split at a time."""

    def __init__(
        self,
        location: str | Path,
        dtype: str = "float32",
        partition_bytes: int = PARTITION_BYTES,
        window_bytes: int = WINDOW_BYTES,
        filesystem: filesystems.FileSystem | None = None,
    ):
        """Open a store; nothing is written before ``fill``.

        Args:
            location: a local folder, or a URI of any pyarrow file system (``s3://bucket/run``, ``gs://...``).
            dtype: float32, or float16 for half the size; float16 turns probabilities below 6e-8 into 0.
            partition_bytes: of probabilities in one file, at most; what is read at once.
            window_bytes: of inputs and probabilities that a member is run over at once, at least one partition.
            filesystem: what ``location`` is a path on, for one that needs more than a URI can say.
        """
        if dtype not in ("float16", "float32"):
            raise PredictionError("dtype", f"{dtype!r}", "give float16 or float32")
        self.location, self.dtype = str(location), dtype
        self.partition_bytes, self.window_bytes = partition_bytes, window_bytes
        if filesystem is not None:
            self._files, self._root = filesystem, self.location
        else:
            self._files, self._root = open_folder(location)

    def fill(
        self,
        spec: EnsembleSpec,
        folder: Path,
        data: Labelled,
        split: str,
        run: Runner = run_in_process,
        out_of_fold: OutOfFold | None = None,
    ) -> FillReport:
        """Run the members whose predictions are missing or made from something else.

        Args:
            spec: the ensemble; the members of its fusion are the columns.
            folder: what the spec's paths start from.
            data: labelled rows with every request input that the members read.
            split: name of these rows, such as "validation".
            run: runs one member over rows.
            out_of_fold: train each member anew on folds of the rows, so that each row is predicted by a model that has
                not seen it; for rows that the members were trained on.

        Raises:
            TuningError: a member gives no class probabilities.
            MemberLoadError, PredictionError: a member cannot be loaded, or fails on every row.
        """
        digest, columns = data.digest(), columns_of(spec, data.labels)
        names = tunable_members(spec, values=out_of_fold is None, heads=out_of_fold is None)
        wanted = {name: self._wanted(spec, name, folder, len(data), columns, digest, out_of_fold) for name in names}

        def predicted(name: str, rows: Rows) -> NDArray[np.float32]:
            if out_of_fold is None:
                return run_in_graph(spec, name, folder, {key: array[rows] for key, array in data.inputs.items()}, run)
            from quorate.tuning.predictions.out_of_fold import predict_out_of_fold

            return predict_out_of_fold(spec.job(name), data, out_of_fold)[rows]

        known = self.rows(split)
        if known is None or known.data != digest:
            self.keep_rows(split, KeptRows.of(data, digest))
        return self._fill(split, wanted, predicted, row_bytes_of(data.inputs))

    def fill_rows(
        self, spec: EnsembleSpec, folder: Path, rows: KeptRows, split: str,
        predicted: Callable[[str, Rows], NDArray[np.float32]], row_bytes: int,
    ) -> FillReport:  # fmt: skip
        """The same of rows of which somebody else knows what members say, or can ask them.

        Args:
            predicted: (n, C) of a member on rows by their numbers.
            row_bytes: of the inputs of a row that it may have to read.
        """
        columns = columns_of(spec, rows.rows.labels)
        names = tunable_members(spec, values=True, heads=True)
        wanted = {name: self._wanted(spec, name, folder, len(rows), columns, rows.data, None) for name in names}
        self.keep_rows(split, rows)
        return self._fill(split, wanted, predicted, row_bytes)

    def keep_rows(self, split: str, rows: KeptRows) -> None:
        """Put what is known of a split's rows beside its predictions; there need not be any."""
        write_rows(self._files, self._rows_path(split), rows)

    def rows(self, split: str) -> KeptRows | None:
        """What is known of a split's rows; None where an earlier version wrote it, or nobody."""
        return read_rows(self._files, self._rows_path(split))

    def changed(self, spec: EnsembleSpec, folder: Path, split: str) -> dict[str, str]:
        """Members of the spec's fusion whose stored predictions are not what they would say now, and why not.

        A model of another server is taken to be what it was: nobody tells when that changes.
        """
        known, damage = self._manifest(split)
        found = {}
        for name in tunable_members(spec, values=True, heads=True):
            entry = known.get(name)
            if damage or entry is None:
                found[name] = damage or NEW
                continue
            wanted = self._wanted(spec, name, folder, entry.rows, entry.classes, entry.data, None)
            if entry.out_of_fold is not None:  # by models like it, whatever its weights
                job = spec.job(name)
                digest = member_digest(job, folder, checkpoint=False) + upstream_digest(spec, name, folder)
                wanted = replace(wanted, member=digest, out_of_fold=entry.out_of_fold)
            code = entry.code if format_of(spec.members[name].model) is REMOTE else wanted.code
            kept = replace(wanted, code=code, dtype=entry.dtype, partition_rows=entry.partition_rows)
            reason, _ = self._stale(split, name, None, entry, kept)
            if reason is not None:
                found[name] = reason
        return found

    def fill_outputs(
        self, spec: EnsembleSpec, folder: Path, data: LabelledOutputs, split: str, run: Runner = run_in_process
    ) -> FillReport:
        """The same for the members of several outputs over all rows, whichever have labels of which output.

        What several members read, such as a trunk, runs once for all of them, over as many rows as fit
        ``window_bytes``.

        Raises:
            TuningError: a member of an output cannot be tuned; or two outputs have labels of other shapes for one.
            MemberLoadError, PredictionError: as ``fill``.
        """
        digest = Labelled(data.inputs, np.zeros(len(data), np.int64), ()).digest()
        wanted: dict[str, Entry] = {}
        for output in spec.outputs:
            view, columns = spec.view(output), columns_of(spec.view(output), data.labels[output].labels)
            for name in tunable_members(view, values=True, heads=True):
                entry = self._wanted(spec, name, folder, len(data), columns, digest, None)
                if wanted.setdefault(name, entry).classes != columns:
                    found = f"output {output!r} has {len(columns)} numbers a row, another {len(wanted[name].classes)}"
                    raise TuningError(f"members.{name}", found, "give both labels of one shape")
        graph: dict[bytes, OfflineGraph] = {}

        def predicted(name: str, rows: Rows) -> NDArray[np.float32]:
            place = repr(rows).encode() if isinstance(rows, slice) else rows.tobytes()
            if place not in graph:
                from quorate.deployments.engine.offline_graph import OfflineGraph

                graph.clear()
                graph[place] = OfflineGraph(spec, folder, {key: array[rows] for key, array in data.inputs.items()})
            return run_node(spec, name, folder, graph[place], run)

        return self._fill(split, wanted, predicted, row_bytes_of(data.inputs))

    def _fill(
        self, split: str, wanted: Mapping[str, Entry], predicted: Callable[[str, Rows], NDArray[np.float32]],
        input_bytes: int,
    ) -> FillReport:  # fmt: skip
        known, damage = self._manifest(split)
        kept: list[str] = []
        computed: dict[str, str] = {}
        for name, entry in wanted.items():
            reason, damaged = self._stale(split, name, damage, known.get(name), entry)
            if reason is None:
                kept.append(name)
                continue
            if reason != NEW:
                _log.warning("computing predictions of %s on %s again: %s", name, split, reason)
            digests = dict(enumerate(known[name].files if len(damaged) < len(entry.ranges()) else ()))
            for numbers, rows in entry.windows(damaged, input_bytes, self.window_bytes):
                digests |= self._write(split, name, predicted(name, rows), entry, numbers)
            files = tuple(digests[number] for number in range(len(entry.ranges())))
            known[name] = replace(entry, files=files)
            write_manifest(self._files, self._manifest_path(split), split, known)
            computed[name] = reason
        return FillReport(tuple(kept), computed)

    def read(self, split: str, members: Sequence[str]) -> list[NDArray[Any]]:
        """Each member's (N, C) probabilities; NaN in rows it failed on.

        A member in one partition is mapped from its file where that is local; more partitions are copied together.

        Raises:
            PredictionError: a member is not in the store, or a file of it is damaged.
        """
        entries = self._checked(split, members)
        parts = [[self._map(split, name, i) for i in range(len(entries[name].files))] for name in members]
        return [part[0] if len(part) == 1 else np.concatenate(part) for part in parts]

    def chunks(self, split: str, members: Sequence[str]) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
        """The same partition by partition, mapped: rows, and each member's (n, C) probabilities of them.

        Only what is looked at is read; predictions larger than memory can be gone through.

        Raises:
            PredictionError: a member is not in the store, a file of it is damaged, or members are partitioned apart.
        """
        entries = self._checked(split, members)
        ranges = entries[members[0]].ranges()
        if any(entry.ranges() != ranges for entry in entries.values()):
            raise PredictionError(f"predictions on {split}", "partitions of different sizes", "fill the store again")
        for number, rows in enumerate(ranges):
            yield rows, [self._map(split, name, number) for name in members]

    def read_rows(self, split: str, members: Sequence[str], rows: slice) -> NDArray[Any]:
        """(M, n, C) probabilities of consecutive rows; only the partitions that hold them are read.

        Raises:
            PredictionError: a member is not in the store, or a file that holds the rows is damaged.
        """
        known, damage = self._manifest(split)
        absent = [name for name in members if name not in known]
        if damage or absent:
            found = damage or f"{', '.join(absent)}: {NEW}"
            raise PredictionError(f"predictions on {split}", found, "fill the store again")
        return np.stack([self._rows_of(split, name, known[name], rows) for name in members])

    def take(self, split: str, members: Sequence[str], rows: NDArray[np.intp]) -> NDArray[Any]:
        """(M, n, C) probabilities of some rows, by their numbers in ascending order.

        Raises:
            PredictionError: as ``chunks``.
        """
        parts = []
        for held, probs in self.chunks(split, members):
            some = rows[np.searchsorted(rows, held.start) : np.searchsorted(rows, held.stop)] - held.start
            parts.append(np.stack([output[some] for output in probs]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def row_bytes(self, split: str, members: Sequence[str]) -> int:
        """Of one row of all these members."""
        known, _ = self._manifest(split)
        return sum(len(known[name].classes) * np.dtype(known[name].dtype).itemsize for name in members)

    def _rows_of(self, split: str, name: str, entry: Entry, rows: slice) -> NDArray[Any]:
        parts = []
        for number, held in enumerate(entry.ranges()):
            start, stop = max(rows.start, held.start), min(rows.stop, held.stop)
            if start < stop:
                reason = file_damage(self._files, self._path(split, name, number), entry.files[number])
                if reason:
                    found = describe_damage({number: reason}, entry)
                    raise PredictionError(f"predictions of {name} on {split}", found, "fill the store again")
                parts.append(self._map(split, name, number)[start - held.start : stop - held.start])
        return np.concatenate(parts)

    def true_class(
        self, split: str, members: Sequence[str], labels: NDArray[np.int64], some: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """(M, n) each member's probability of the true class: what log-loss weights are solved on, C times smaller.

        Args:
            split, members: of the predictions.
            labels: (N,) of all rows.
            some: (n,) numbers of the rows wanted, ascending; all when None.

        Raises:
            PredictionError: as ``chunks``; or a member failed on a row.
        """
        wanted = np.arange(len(labels)) if some is None else some
        columns = mapped_array((len(members), len(wanted)), np.dtype(np.float32))  # of all rows: 80 MB for a million
        for held, probs in self.chunks(split, members):
            place = slice(*np.searchsorted(wanted, (held.start, held.stop)))
            rows = wanted[place]
            for member, output in enumerate(probs):
                part = output if len(rows) == len(output) else output[rows - held.start]
                columns[member, place] = true_class(part[None], labels[rows])[0]
        return columns

    def members(self, split: str) -> tuple[str, ...]:
        """Members whose predictions of a split are listed."""
        return tuple(self._manifest(split)[0])

    def _wanted(
        self, spec: EnsembleSpec, name: str, folder: Path, rows: int, columns: tuple[str, ...], digest: str,
        out_of_fold: OutOfFold | None,
    ) -> Entry:  # fmt: skip
        job = spec.job(name)
        row_bytes = len(columns) * np.dtype(self.dtype).itemsize
        return Entry(
            member=member_digest(job, folder, checkpoint=out_of_fold is None) + upstream_digest(spec, name, folder),
            code=code_digest(job, folder),
            data=digest,
            classes=columns,
            dtype=self.dtype,
            rows=rows,
            partition_rows=max(1, self.partition_bytes // row_bytes),
            out_of_fold=None if out_of_fold is None else str(out_of_fold),
        )

    def _stale(
        self, split: str, name: str, damage: str | None, found: Entry | None, wanted: Entry
    ) -> tuple[str | None, list[int]]:
        """Why a member has to be computed, None if it has not, and the partitions."""
        everything = list(range(len(wanted.ranges())))
        reason = damage or (NEW if found is None else wanted.difference(found))
        if reason or found is None:
            return reason, everything
        damaged = self._damaged(split, name, found)
        if not damaged:
            return None, []
        return describe_damage(damaged, found), list(damaged)

    def _damaged(self, split: str, name: str, entry: Entry) -> dict[int, str]:
        found = {
            number: file_damage(self._files, self._path(split, name, number), digest)
            for number, digest in enumerate(entry.files)
        }
        return {number: what for number, what in found.items() if what is not None}

    def _checked(self, split: str, members: Sequence[str]) -> dict[str, Entry]:
        known, damage = self._manifest(split)
        for name in members:
            reason = damage or (NEW if name not in known else None)
            if reason is None and (damaged := self._damaged(split, name, known[name])):
                reason = describe_damage(damaged, known[name])
            if reason:
                raise PredictionError(f"predictions of {name} on {split}", reason, "fill the store again")
        return {name: known[name] for name in members}

    def _manifest(self, split: str) -> tuple[dict[str, Entry], str | None]:
        return read_manifest(self._files, self._manifest_path(split))

    def _manifest_path(self, split: str) -> str:
        return f"{self._root}/{split}/manifest.json"

    def _rows_path(self, split: str) -> str:
        return f"{self._root}/{split}/{FILE}"

    def _write(
        self, split: str, name: str, probs: NDArray[Any], entry: Entry, numbers: Sequence[int]
    ) -> dict[int, str]:
        """Write partitions from the rows of ``probs``, which are theirs one after another; their digests."""
        ranges = entry.ranges()
        check_shape(name, probs, sum(ranges[number].stop - ranges[number].start for number in numbers), entry.classes)
        digests, at = dict[int, str](), 0
        for number in numbers:
            size = ranges[number].stop - ranges[number].start
            part = probs[at : at + size].astype(entry.dtype, copy=False)
            digests[number] = write_partition(self._files, self._path(split, name, number), part)
            at += size
        return digests

    def _map(self, split: str, name: str, number: int) -> NDArray[Any]:
        return map_partition(self._files, self._path(split, name, number))

    def _path(self, split: str, name: str, number: int) -> str:
        return f"{self._root}/{split}/{name}/{number:05}.arrow"
