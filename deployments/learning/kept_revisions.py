"""What is needed to fuse again beside a record: the spec of each revision, and the files that its fusions name."""

from __future__ import annotations

import json
from pathlib import Path

from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.folder import REVISIONS, RecordFolder
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.named_files import ensemble_files

_SPEC = "spec.json"


def keep_revision(folder: RecordFolder, spec: EnsembleSpec, own: Path) -> None:
    """Put a revision beside the record.

    Args:
        own: the folder that the spec's paths start from.

    Raises:
        OSError: it cannot be written.
    """
    place = f"{REVISIONS}/{spec.revision}"
    for file in ensemble_files(spec):
        if file.field.startswith("fusion") and file.inside:
            folder.put(folder.path(place, file.path), (own / file.path).read_bytes())
    folder.put(folder.path(place, _SPEC), spec.model_dump_json().encode())


def kept_revision(folder: RecordFolder, name: str, scratch: Path) -> Revision:
    """A revision from beside the record, its rules built.

    Args:
        scratch: where its files may lie meanwhile.

    Raises:
        RequestError: it is not there.
        SpecError: it cannot be built.
    """
    place = f"{REVISIONS}/{name}"
    own = scratch / name
    try:
        with folder.files.open_input_stream(folder.path(place, _SPEC)) as file:
            spec = parse_spec(json.loads(file.read()))
        for file in ensemble_files(spec):
            if file.field.startswith("fusion") and file.inside:
                (own / file.path).parent.mkdir(parents=True, exist_ok=True)
                with folder.files.open_input_stream(folder.path(place, file.path)) as stream:
                    (own / file.path).write_bytes(stream.read())
    except OSError as error:
        fix = "replay it with another spec: --spec FILE"
        raise RequestError(f"revision {name} is not beside the record ({error}); {fix}") from None
    return build_revision(spec, own)
