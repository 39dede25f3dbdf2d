"""One file of a prediction store: rows of class probabilities of one member, as an Arrow IPC file of one batch."""

# N rows, C classes

from __future__ import annotations

import contextlib
import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs as filesystems


def write_partition(files: filesystems.FileSystem, path: str, probs: NDArray[Any]) -> str:
    """Write (N, C) probabilities; returns the file's digest."""
    flat = pa.array(np.ascontiguousarray(probs).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, probs.shape[1])
    batch = pa.record_batch({"probabilities": column})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    replace_file(files, path, sink.getvalue())
    return f"sha256:{hashlib.sha256(sink.getvalue()).hexdigest()}"


def map_partition(files: filesystems.FileSystem, path: str) -> NDArray[Any]:
    """(N, C) probabilities, mapped where the file is local: rows are read from disk when they are looked at."""
    local = isinstance(files, filesystems.LocalFileSystem)
    source = pa.memory_map(path) if local else files.open_input_file(path)
    column = pa.ipc.open_file(source).get_batch(0).column("probabilities")
    flat: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=True)
    return flat.reshape(len(column), -1)


def file_damage(files: filesystems.FileSystem, path: str, digest: str) -> str | None:
    """What is wrong with a file that should have this digest; None when nothing is."""
    if files.get_file_info(path).type != filesystems.FileType.File:
        return "missing"
    found = hashlib.sha256()
    with files.open_input_stream(path) as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return None if f"sha256:{found.hexdigest()}" == digest else "damaged or another's"


def replace_file(files: filesystems.FileSystem, path: str, data: bytes) -> None:
    """Write beside the file and move over it: a reader, or a crash, sees the old file or the new one whole."""
    files.create_dir(path.rsplit("/", 1)[0], recursive=True)
    try:
        with files.open_output_stream(f"{path}.partial") as file:
            file.write(data)
        files.move(f"{path}.partial", path)
    except OSError:
        with contextlib.suppress(OSError):
            files.delete_file(f"{path}.partial")  # on a full disk half a file is only in the way
        raise
