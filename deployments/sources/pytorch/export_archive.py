"""What is in a torch.export archive before torch reads it: torch falls back to unpickling anything, which runs code."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_MAX_CONFIG_BYTES = 64 << 20
# Beside texts that are no JSON, what readers of archives raise for what is none.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, KeyError, json.JSONDecodeError,
    UnicodeDecodeError,
)  # fmt: skip
# Operators that read or write files, as a program's graph names them.
_OPENS_FILES = re.compile(rb"torch\.ops\.\w+\.(save|from_file|load_tensor)\b")


class UnsafeArchiveError(ValueError):
    """An archive that torch would run code from, or that is none."""


def check_archive(path: Path) -> None:
    """Refuse an archive with a pickle of more than tensors and plain values, or a program that opens files.

    torch unpickles sample inputs, and weights and constants that are marked so; each must load with ``weights_only``.

    Raises:
        UnsafeArchiveError: it has either, or is no archive that torch.export writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # Of two entries of one name this reader sees the last, and torch's the first.
            twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
            if twice:
                raise UnsafeArchiveError(f"it holds {twice[0]} twice")
            for name in (name for name in archive.namelist() if name.endswith(".json")):
                found = _OPENS_FILES.search(archive.read(name))
                if found:
                    raise UnsafeArchiveError(f"{name} asks for {found.group().decode()}, which opens files")
            for name in _pickled(archive):
                _check_pickle(name, archive.read(name))
    except _DAMAGE as error:
        raise UnsafeArchiveError(f"it cannot be read: {error}") from None


def _pickled(archive: zipfile.ZipFile) -> Iterator[str]:
    """The entries that torch would unpickle."""
    for entry in archive.infolist():
        name = entry.filename
        if name.endswith((".pt", ".pth", ".pkl", ".bin")):
            yield name
        elif name.endswith("_config.json"):
            if entry.file_size > _MAX_CONFIG_BYTES:
                raise UnsafeArchiveError(f"{name} has {entry.file_size} bytes")
            config: Any = json.loads(archive.read(name)).get("config") or {}
            paths = [found["path_name"] for found in config.values() if found.get("use_pickle")]
            yield from (f"{name.rpartition('/')[0]}/{path}" for path in paths)


def _check_pickle(name: str, data: bytes) -> None:
    if not data:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns of what its own writer never writes
            torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:  # the restricted reader meets whatever a file may hold
        raise UnsafeArchiveError(f"{name} is a pickle of more than tensors, which may run code when read") from None
