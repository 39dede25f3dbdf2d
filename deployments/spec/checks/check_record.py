"""Whether the record of answers has a place that every replica finds."""

from __future__ import annotations

from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.deployments.spec.uris import says_secret


def check_record(record: RecordSpec | None) -> None:
    """Raise SpecError for a folder that each replica would look for elsewhere, and for one that has a secret in it."""
    if record is not None and says_secret(record.folder):
        found = f"{record.folder.partition(':')[0]}://... has credentials in it, which whoever reads the spec would see"
        raise SpecError("record.folder", found, "give them in the environment of the nodes")
    if record is None or "://" in record.folder or Path(record.folder).is_absolute():
        return
    found = f"'{record.folder}' starts from wherever a replica runs"
    raise SpecError("record.folder", found, "give an absolute path, or a URI such as s3://bucket/folder")
