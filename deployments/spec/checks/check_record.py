"""Whether the record of answers has a place that every replica finds."""

from __future__ import annotations

from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.record import RecordSpec


def check_record(record: RecordSpec | None) -> None:
    """Raise SpecError for a folder that each replica would look for elsewhere."""
    if record is None or "://" in record.folder or Path(record.folder).is_absolute():
        return
    found = f"'{record.folder}' starts from wherever a replica runs"
    raise SpecError("record.folder", found, "give an absolute path, or a URI such as s3://bucket/folder")
