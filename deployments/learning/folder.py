"""Where a record lies: a local folder, whose files grow, or any other file system, whose files are put whole."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyarrow import fs as filesystems

from quorate.deployments.records.file_system import open_folder

ANSWERS, LABELS, REVISIONS = "answers", "labels", "revisions"
SUFFIX = ".arrow"
# Of the files that this process begins: none has the name of another.
PLACES = itertools.count(1)


@dataclass(frozen=True)
class StoredFile:
    """A file of a record.

    Attributes:
        path: on its file system.
        changed_s: when it was last written, in seconds since 1970.
    """

    path: str
    nbytes: int
    changed_s: float

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def replica(self) -> str:
        """Which replica wrote it."""
        return self.name.partition("-")[0]


class Growing(Protocol):
    """A file that is being written.

    Attributes:
        nbytes: of it so far.
    """

    nbytes: int

    def write(self, data: bytes) -> None:
        """Add to it, all or nothing.

        Raises:
            OSError: nothing was added.
        """

    @property
    def gone(self) -> bool:
        """Whether somebody has deleted it: what is written goes nowhere."""

    def keep(self) -> None:
        """Return when what was written outlives this machine's fall.

        Raises:
            OSError: it may not.
        """

    def close(self) -> None:
        """Write nothing more.

        Raises:
            OSError: of a file that is put whole, nothing is there.
        """


class RecordFolder:
    """One ensemble's record.

    Attributes:
        files: the file system, and ``root`` the folder on it.
        local: whether its files can grow.
    """

    def __init__(self, location: str | Path):
        """Args:
        location: a path, or a URI.

        Raises:
            OSError, ValueError: there is no such file system.
        """
        self.location, self.local = str(location), "://" not in str(location)
        self.files, self.root = open_folder(location)

    def path(self, kind: str, name: str) -> str:
        return f"{self.root}/{kind}/{name}"

    def list(self, kind: str) -> list[StoredFile]:
        """The Arrow files of a kind, in the order of their names; none where there are none."""
        chosen = filesystems.FileSelector(f"{self.root}/{kind}", allow_not_found=True)
        infos = [info for info in self.files.get_file_info(chosen) if info.type == filesystems.FileType.File]
        found = [StoredFile(info.path, info.size, (info.mtime_ns or 0) / 1e9) for info in infos]
        return sorted((file for file in found if file.path.endswith(SUFFIX)), key=lambda file: file.path)

    def grow(self, path: str) -> Growing:
        """Begin a file.

        Raises:
            OSError: it cannot be written.
        """
        self.files.create_dir(path.rpartition("/")[0], recursive=True)
        return LocalFile(path) if self.local else WholeFile(lambda data: self.put(path, data))

    def put(self, path: str, data: bytes) -> None:
        """Write a file whole: it is there with all its bytes, or not at all.

        Raises:
            OSError: it is not there.
        """
        self.files.create_dir(path.rpartition("/")[0], recursive=True)
        if not self.local:
            with self.files.open_output_stream(path) as file:
                file.write(data)
            return
        self.delete(f"{path}.partial")  # of one that was killed midway
        growing = LocalFile(f"{path}.partial")
        try:
            growing.write(data)
            growing.keep()
            growing.close()
            os.replace(f"{path}.partial", path)
        except OSError:
            self.delete(f"{path}.partial")
            raise

    def delete(self, path: str) -> None:
        """Have a file no more; nothing happens where another replica was sooner."""
        with contextlib.suppress(OSError):
            self.files.delete_file(path)


class LocalFile:
    """A file on this machine's disk."""

    def __init__(self, path: str):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._folder: str | None = os.path.dirname(path)  # until its entry there is kept, too
        self.nbytes = 0

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:  # a full disk has taken a part
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.nbytes)
            os.lseek(self._descriptor, self.nbytes, os.SEEK_SET)
            raise
        self.nbytes += len(data)

    @property
    def gone(self) -> bool:
        return os.fstat(self._descriptor).st_nlink == 0

    def keep(self) -> None:
        os.fsync(self._descriptor)
        if self._folder is not None:
            entry = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(entry)
            finally:
                os.close(entry)
            self._folder = None

    def close(self) -> None:
        os.close(self._descriptor)


class WholeFile:
    """A file of a store that has no files that grow: it is held in memory and put when it is closed."""

    def __init__(self, put: Callable[[bytes], None]):
        self._parts: list[bytes] = []
        self._put = put
        self.nbytes = 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self.nbytes += len(data)

    @property
    def gone(self) -> bool:
        return False  # it is not there yet

    def keep(self) -> None:
        """What is put outlives this machine: nothing is there before."""

    def close(self) -> None:
        self._put(b"".join(self._parts))
