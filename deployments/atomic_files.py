"""Files that are whole or not there: a crash, a full disk or a second reader never meets half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# No space, over quota, file too large, read-only, input/output error: no trial's fault, and the next one meets it too.
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the file, force it to the disk, then move over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_whole(path) as fresh:
        fresh.write_bytes(data)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file with its mode and times."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with writing_whole(target) as fresh:
        shutil.copy2(source, fresh)


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """For what writes files itself, such as safetensors and Arrow.

    Yields:
        A name beside the file; what is written there is forced to the disk, then moved over it.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield fresh
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)  # on a full disk half a file is only in the way
        raise


def storage_failed(error: BaseException) -> bool:
    """Whether the disk is at fault, so that every later trial would fail too."""
    return isinstance(error, OSError) and error.errno in _STORAGE
