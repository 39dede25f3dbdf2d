"""Per-member probabilities of labelled rows, kept so that nothing after them needs a GPU.

``LOCATION/SPLIT/MEMBER.arrow`` holds one member's (N, C) probabilities, ``LOCATION/SPLIT/manifest.json`` what they were
made from. A member whose words, weights, code or data changed is computed again, and so is a file whose bytes did; the
others are kept. Entry points: ``PredictionStore(location).fill(spec, folder, data, "validation") -> FillReport`` and
``.read("validation", members)``.
"""

# M members, N rows, C classes

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs as filesystems

from quorate.deployments.spec import EnsembleSpec
from quorate.fusion.errors import PredictionError
from quorate.tuning.datasets import Labelled
from quorate.tuning.digests import code_digest, member_digest
from quorate.tuning.prediction import Runner, run_in_process, tunable_members

_log = logging.getLogger(__name__)
_VERSION = 1
NEW = "not in the store yet"


@dataclass(frozen=True)
class Entry:
    """What one file's predictions were made from, and the digest of the file itself."""

    member: str
    code: str | None
    data: str
    classes: tuple[str, ...]
    dtype: str
    rows: int
    file: str = ""

    def difference(self, made_from: Entry) -> str | None:
        """Which word of ours another entry does not share; None when only the file may differ."""
        for field in ("data", "classes", "rows", "member", "code", "dtype"):
            if getattr(self, field) != getattr(made_from, field):
                return f"its {field} changed"
        return None


@dataclass(frozen=True)
class FillReport:
    """What filling did.

    Attributes:
        kept: members whose predictions were there already.
        computed: members that were run -> why.
    """

    kept: tuple[str, ...]
    computed: Mapping[str, str]


class PredictionStore:
    """Predictions under one folder or URI; one process writes a split at a time."""

    def __init__(self, location: str | Path, dtype: str = "float32"):
        """Open a store; nothing is written before ``fill``.

        Args:
            location: a local folder, or a URI of any pyarrow file system (``s3://bucket/run``, ``gs://...``).
            dtype: float32, or float16 for half the size; float16 turns probabilities below 6e-8 into 0.
        """
        if dtype not in ("float16", "float32"):
            raise PredictionError("dtype", f"{dtype!r}", "give float16 or float32")
        self.location, self.dtype = str(location), dtype
        if "://" in self.location:
            self._files, self._root = filesystems.FileSystem.from_uri(self.location)
        else:
            self._files, self._root = filesystems.LocalFileSystem(), str(Path(location).resolve())

    def fill(
        self, spec: EnsembleSpec, folder: Path, data: Labelled, split: str, run: Runner = run_in_process
    ) -> FillReport:
        """Run the members of the ensemble's fusion whose predictions are missing or no longer valid.

        Args:
            spec: names the members.
            folder: what the spec's paths start from.
            data: rows with every request input that the members read.
            split: name of these rows, such as "validation".
            run: runs one member over rows.

        Raises:
            TuningError: a member gives no class probabilities.
            MemberLoadError, PredictionError: a member cannot be loaded, or fails on every row.
        """
        rows = data.digest()
        known, damage = self._manifest(split)
        kept: list[str] = []
        computed: dict[str, str] = {}
        for name in tunable_members(spec):
            job = spec.job(name)
            digests = member_digest(job, folder), code_digest(job, folder)
            wanted = Entry(*digests, rows, tuple(spec.classes or ()), self.dtype, len(data))
            reason = damage or self._reason(split, name, known.get(name), wanted)
            if reason is None:
                kept.append(name)
                continue
            if reason != NEW:
                _log.warning("computing predictions of %s on %s again: %s", name, split, reason)
            file = self._write(split, name, run(job, folder, data.inputs), wanted)
            known[name] = Entry(**{**asdict(wanted), "file": file})
            self._write_manifest(split, known)
            computed[name] = reason
        return FillReport(tuple(kept), computed)

    def read(self, split: str, members: Sequence[str]) -> list[NDArray[Any]]:
        """Each member's (N, C) probabilities, mapped from the file where it is local; NaN in rows it failed on.

        Raises:
            PredictionError: a member is not in the store, or its file is damaged.
        """
        known, damage = self._manifest(split)
        for name in members:
            reason = damage or (NEW if name not in known else self._file_damage(split, name, known[name]))
            if reason:
                raise PredictionError(f"predictions of {name} on {split}", reason, "fill the store again")
        return [self._array(split, name, known[name]) for name in members]

    def members(self, split: str) -> tuple[str, ...]:
        """Members whose predictions of a split are listed."""
        return tuple(self._manifest(split)[0])

    def _path(self, split: str, name: str) -> str:
        return f"{self._root}/{split}/{name}"

    def _reason(self, split: str, name: str, found: Entry | None, wanted: Entry) -> str | None:
        if found is None:
            return NEW
        return wanted.difference(found) or self._file_damage(split, name, found)

    def _file_damage(self, split: str, name: str, entry: Entry) -> str | None:
        path = self._path(split, f"{name}.arrow")
        if self._files.get_file_info(path).type != filesystems.FileType.File:
            return "its file is missing"
        digest = hashlib.sha256()
        with self._files.open_input_stream(path) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return None if f"sha256:{digest.hexdigest()}" == entry.file else "its file is damaged or another's"

    def _manifest(self, split: str) -> tuple[dict[str, Entry], str | None]:
        path = self._path(split, "manifest.json")
        if self._files.get_file_info(path).type != filesystems.FileType.File:
            return {}, None
        with self._files.open_input_stream(path) as file:
            raw = file.read()
        try:
            manifest = json.loads(raw)
            if manifest["version"] != _VERSION:
                return {}, f"the manifest has version {manifest['version']}"
            members = manifest["members"].items()
            return {name: Entry(**{**e, "classes": tuple(e["classes"])}) for name, e in members}, None
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}, "the manifest is damaged"

    def _write_manifest(self, split: str, entries: Mapping[str, Entry]) -> None:
        members = {name: asdict(entry) for name, entry in entries.items()}
        text = json.dumps({"version": _VERSION, "split": split, "members": members}, indent=1)
        self._replace(self._path(split, "manifest.json"), text.encode())

    def _write(self, split: str, name: str, probs: NDArray[Any], entry: Entry) -> str:
        if probs.shape != (entry.rows, len(entry.classes)):
            found = f"shape {probs.shape} for {entry.rows} rows and {len(entry.classes)} classes"
            raise PredictionError(f"predictions of {name}", found, "give one row of class probabilities per row")
        flat = pa.array(np.ascontiguousarray(probs, dtype=entry.dtype).ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, len(entry.classes))
        batch = pa.record_batch({"probabilities": column})
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        self._replace(self._path(split, f"{name}.arrow"), sink.getvalue())
        return f"sha256:{hashlib.sha256(sink.getvalue()).hexdigest()}"

    def _replace(self, path: str, data: bytes) -> None:
        """Write beside the file and move over it: a reader, or a crash, sees the old file or the new one whole."""
        self._files.create_dir(path.rsplit("/", 1)[0], recursive=True)
        with self._files.open_output_stream(f"{path}.partial") as file:
            file.write(data)
        self._files.move(f"{path}.partial", path)

    def _array(self, split: str, name: str, entry: Entry) -> NDArray[Any]:
        path = self._path(split, f"{name}.arrow")
        local = isinstance(self._files, filesystems.LocalFileSystem)
        source = pa.memory_map(path) if local else self._files.open_input_file(path)
        batch = pa.ipc.open_file(source).get_batch(0)
        flat: NDArray[Any] = batch.column("probabilities").flatten().to_numpy(zero_copy_only=True)
        return flat.reshape(entry.rows, len(entry.classes))
