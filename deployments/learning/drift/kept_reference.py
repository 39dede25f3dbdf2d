"""References in files: what ``tune`` writes beside a spec, and what doors have learned beside a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.learning.drift.reference import Reference
from quorate.deployments.learning.folder import REVISIONS, RecordFolder
from quorate.deployments.spec.fields.fusion import FusionSpec

# What decides what is answered to members' outputs; files of states are not opened for it, new ones come with weights.
_DECIDES = {"rule", "members", "weights", "options", "member_calibration", "calibration", "relabel", "decision"}
_FIX = "write it again with quorate tune, or leave drift.reference out"


def fusion_name(fusion: FusionSpec) -> str:
    """Names what a fusion answers, whatever its deadlines and quorums."""
    said = fusion.model_dump(mode="json", include=_DECIDES)
    for calibration in (said["calibration"], *said["member_calibration"].values()):
        if calibration:
            calibration.pop("state", None)  # a path, which differs where it is deployed
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def save_references(references: Mapping[str, Reference], file: Path) -> None:
    """Write references, by output."""
    file.write_text(_text(references))


def load_references(file: Path) -> dict[str, Reference]:
    """What ``save_references`` wrote.

    Raises:
        SpecError: the file holds something else, or cannot be read.
    """
    try:
        return _references(file.read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError("drift.reference", f"{file.name} holds no reference ({error})", _FIX) from None


def keep_learned(folder: RecordFolder, revision: str, references: Mapping[str, Reference]) -> None:
    """Put what was learned beside a record, for doors that start later.

    Raises:
        OSError: it cannot be written.
    """
    folder.put(_place(folder, revision), _text(references).encode())


def kept_learned(folder: RecordFolder, revision: str) -> dict[str, Reference]:
    """What another door, or this one before it started again, has learned; nothing where there is nothing."""
    try:
        with folder.files.open_input_stream(_place(folder, revision)) as stream:
            return _references(stream.read().decode())
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _place(folder: RecordFolder, revision: str) -> str:
    return folder.path(f"{REVISIONS}/{revision}", "drift.json")


def _text(references: Mapping[str, Reference]) -> str:
    return json.dumps({"outputs": {name: one.to_json() for name, one in references.items()}})


def _references(text: str) -> dict[str, Reference]:
    return {name: Reference.from_json(one) for name, one in json.loads(text)["outputs"].items()}
