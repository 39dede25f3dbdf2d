"""Arrow IPC files that are written bit by bit, and read whatever became of their writer.

A file that was closed has a footer and is a plain Arrow (Feather) file. Before the footer it is a magic word and an IPC
stream: what its writer could not close is read as that, up to the last whole record batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyarrow import fs as filesystems

from quorate.deployments.learning.folder import Growing
from quorate.deployments.wire.arrow_stream import Sink

_MAGIC = b"ARROW1\0\0"


class ArrowFile:
    """A file of record batches of one schema.

    Attributes:
        file: what is written to.
        schema: of its record batches.
    """

    def __init__(self, file: Growing, schema: pa.Schema):
        """Args:
        file: nothing is written yet.

        Raises:
            OSError: the schema cannot be written.
        """
        self.file, self.schema, self._sink = file, schema, Sink()
        self._writer = pa.ipc.new_file(pa.PythonFile(self._sink, "w"), schema)
        self.file.write(self._sink.take())

    @property
    def nbytes(self) -> int:
        return self.file.nbytes

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows, all or none.

        Raises:
            OSError: none were added, and the file takes no more: ``abandon`` it.
        """
        self._writer.write_batch(batch)
        self.file.write(self._sink.take())

    def close(self) -> None:
        """Add the footer.

        Raises:
            OSError: it has none, or of a store whose files are put whole, there is no file.
        """
        self._writer.close()
        try:
            self.file.write(self._sink.take())
        finally:
            self.file.close()

    def abandon(self) -> None:
        """Leave it as it is, without a footer."""
        self.file.close()


def read_batches(files: filesystems.FileSystem, path: str, skip: int = 0) -> Iterator[pa.RecordBatch]:
    """The whole record batches of a file, closed or not, however it ends.

    Args:
        skip: of the first ones nothing is given.

    Raises:
        FileNotFoundError: there is no such file any more.
    """
    source = pa.memory_map(path) if isinstance(files, filesystems.LocalFileSystem) else files.open_input_file(path)
    with source:
        if bytes(source.read(len(_MAGIC))) != _MAGIC:
            return
        try:
            stream = pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError):  # not even a schema
            return
        number = 0
        while True:
            try:
                batch = stream.read_next_batch()
            except (StopIteration, pa.ArrowInvalid, OSError):
                return
            number += 1
            if number > skip:
                yield batch


def read_schema(files: filesystems.FileSystem, path: str) -> pa.Schema | None:
    """A file's schema; None where not even that was written."""
    with files.open_input_stream(path) as source:
        if bytes(source.read(len(_MAGIC))) != _MAGIC:
            return None
        try:
            return pa.ipc.read_schema(source)
        except (pa.ArrowInvalid, OSError):
            return None
