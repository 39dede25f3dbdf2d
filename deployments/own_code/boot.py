"""What a job starts with: the operator's Quorate where this node has none, or another. Its text is the job's command.

It runs before Quorate is there, so it knows the standard library and Ray only.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
import time
import zipfile
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

WAIT_S = 120.0
SAYS = "@quorate "


def code_files(package: Path) -> list[Path]:
    """What makes the package, in the order of their names."""
    found = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(found, key=lambda path: path.relative_to(package).as_posix())


def code_digest(package: Path) -> str:
    """Of a package's files, their names among it."""
    digest = hashlib.sha256()
    for path in code_files(package):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def code_key(digest: str) -> str:
    """What the package is called in Ray's package store; Ray unpacks what is called so for workers, too."""
    return f"quorate-code-{digest[:32]}.zip"


def _installed(digest: str) -> bool:
    found = find_spec("quorate")
    return found is not None and found.origin is not None and code_digest(Path(found.origin).parent) == digest


def _fetch(digest: str) -> None:
    """Take the operator's package out of Ray's store, once it has put it there."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    store, until = GcsClient(address=os.environ["RAY_ADDRESS"]), time.monotonic() + WAIT_S
    print(f'{SAYS}{{"code": true}}', flush=True)
    while (found := store.internal_kv_get(f"gcs://{code_key(digest)}".encode(), None, 30)) is None:
        if time.monotonic() > until:
            sys.exit("the operator's Quorate has not arrived")
        time.sleep(0.05)
    place = tempfile.mkdtemp(prefix="quorate-code-")
    zipfile.ZipFile(BytesIO(found)).extractall(place)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    sys.path.insert(0, place)


def _start(job: str, digest: str) -> None:
    sys.path[:] = [place for place in sys.path if place]  # whatever lies where the node was started from
    if not _installed(digest):
        _fetch(digest)
    import_module("quorate.cluster.cli.in_job").main(job)


if __name__ == "__main__":
    _start(*sys.argv[1:3])
