"""Pyarrow's file systems, as patient as whoever has a slow link needs them to be."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

# Arrow gives S3 3 s to answer, in which a slow link takes no part of a file, and tries GCS for a quarter of an hour.
_PATIENCE: dict[str, dict[str, Any]] = {
    "s3": {"connect_timeout": 10, "request_timeout": 60},
    "gcs": {"retry_time_limit": timedelta(seconds=60)},
}


def open_folder(location: str | Path) -> tuple[Any, str]:
    """The file system of a folder that is a path or a URI, and the folder on it.

    Raises:
        ValueError, OSError, NotImplementedError: there is none.
    """
    if "://" in str(location):
        return open_file_system(str(location))
    from pyarrow import fs

    return fs.LocalFileSystem(), str(Path(location).resolve())


def open_file_system(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and the folder on it without a slash at its end.

    Raises:
        ValueError, OSError, NotImplementedError: there is none.
    """
    from pyarrow import fs

    system, folder = fs.FileSystem.from_uri(uri)
    return _patient(system), folder.rstrip("/")


def _patient(system: Any) -> Any:
    """The same file system, which waits as long as we want it to; URIs cannot say that of S3."""
    if system.type_name not in _PATIENCE:
        return system
    make, (options,) = system.__reduce__()
    return make({**options, **_PATIENCE[system.type_name]})
