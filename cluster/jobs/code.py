"""Quorate as it is installed here, as one archive that Python and Ray take as it is."""

from __future__ import annotations

import importlib.metadata
import zipfile
from io import BytesIO
from pathlib import Path

import quorate
from quorate.cluster.jobs.boot import code_digest, code_files

# The oldest date that an archive can say: the same files are the same archive.
_DATE = (1980, 1, 1, 0, 0, 0)


def own_digest() -> str:
    """Of the package."""
    return code_digest(_package())


def own_archive() -> bytes:
    """The package, with the metadata by which it knows its version."""
    package, about = _package(), importlib.metadata.distribution("quorate")
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for path in code_files(package):
            name = f"quorate/{path.relative_to(package).as_posix()}"
            written.writestr(zipfile.ZipInfo(name, _DATE), path.read_bytes(), zipfile.ZIP_DEFLATED)
        info = f"quorate-{about.version}.dist-info/METADATA"
        written.writestr(zipfile.ZipInfo(info, _DATE), about.read_text("METADATA") or f"Name: quorate\nVersion: {about.version}\n")
    return archive.getvalue()


def _package() -> Path:
    return Path(quorate.__file__).parent
