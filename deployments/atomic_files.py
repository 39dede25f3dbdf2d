"""Files that are whole or not there: a crash, a full disk or a second reader never meets half of one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# No space, over quota, file too large, read-only, input/output error: no trial's fault, and the next one meets it too.
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the file, force it to the disk, then move over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)  # on a full disk half a file is only in the way
        raise


def storage_failed(error: BaseException) -> bool:
    """Whether the disk is at fault, so that every later trial would fail too."""
    return isinstance(error, OSError) and error.errno in _STORAGE
