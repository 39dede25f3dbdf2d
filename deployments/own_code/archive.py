"""Quorate as it is installed here, as one archive that Python and Ray take as it is."""

from __future__ import annotations

import importlib.metadata
import zipfile
from functools import cache
from io import BytesIO
from pathlib import Path

from quorate.deployments.own_code.boot import code_digest, code_files

# In a checkout ``quorate`` itself may be found where only the front door is.
PACKAGE = Path(__file__).parents[2]
# The oldest date that an archive can say: the same files are the same archive.
_DATE = (1980, 1, 1, 0, 0, 0)


@cache
def own_digest() -> str:
    """Of the package."""
    return code_digest(PACKAGE)


def own_archive() -> bytes:
    """The package, with the metadata by which it knows its version."""
    package, about = PACKAGE, importlib.metadata.distribution("quorate")
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for path in code_files(package):
            name = f"quorate/{path.relative_to(package).as_posix()}"
            written.writestr(zipfile.ZipInfo(name, _DATE), path.read_bytes(), zipfile.ZIP_DEFLATED)
        info = f"quorate-{about.version}.dist-info/METADATA"
        written.writestr(zipfile.ZipInfo(info, _DATE), about.read_text("METADATA") or "")
    return archive.getvalue()
