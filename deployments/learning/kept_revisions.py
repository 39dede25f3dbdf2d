"""What is needed to fuse again beside a record: the spec of each revision, and the files that its fusions name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.errors import RequestError, SpecError
from quorate.deployments.learning.folder import REVISIONS, RecordFolder
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.named_files import ensemble_files, with_paths

# The spec as it was, and where the files that it names by field are beside it.
_SPEC, _PATHS = "spec.json", "paths.json"


def keep_revision(folder: RecordFolder, spec: EnsembleSpec, own: Path) -> None:
    """Put a revision beside the record.

    Args:
        own: the folder that the spec's paths start from.

    Raises:
        OSError: it cannot be written.
    """
    place, paths = f"{REVISIONS}/{spec.revision}", {}
    for number, file in enumerate(file for file in ensemble_files(spec) if file.field.startswith(("fusion", "drift"))):
        paths[file.field] = f"{number}-{Path(file.path).name}"
        folder.put(folder.path(place, paths[file.field]), (own / file.path).read_bytes())
    folder.put(folder.path(place, _PATHS), json.dumps(paths).encode())
    folder.put(folder.path(place, _SPEC), spec.model_dump_json().encode())


def kept_spec(folder: RecordFolder, name: str) -> EnsembleSpec | None:
    """The spec of a revision as it was deployed, with the digests of its files; None where it is not there."""
    try:
        with folder.files.open_input_stream(folder.path(f"{REVISIONS}/{name}", _SPEC)) as stream:
            return parse_spec(json.loads(stream.read()))
    except (OSError, ValueError, SpecError):
        return None


def kept_revision(folder: RecordFolder, name: str, scratch: Path) -> Revision:
    """A revision from beside the record, its rules built.

    Args:
        scratch: where its files may lie meanwhile.

    Raises:
        RequestError: it is not there.
        SpecError: it cannot be built.
    """
    place, own = f"{REVISIONS}/{name}", scratch / name
    own.mkdir(parents=True, exist_ok=True)

    def read(file: str) -> bytes:
        with folder.files.open_input_stream(folder.path(place, file)) as stream:
            found: bytes = stream.read()
            return found

    try:
        data, paths = json.loads(read(_SPEC)), json.loads(read(_PATHS))
        for path in paths.values():
            (own / Path(path).name).write_bytes(read(path))
    except (OSError, ValueError) as error:
        fix = "replay it with another spec: --spec FILE"
        raise RequestError(f"revision {name} is not beside the record ({error}); {fix}") from None
    revision = build_revision(parse_spec(with_paths(data, paths)), own)
    # Other paths would be another name; the files are those, as their digests say.
    views = {output: replace(view, name=name) for output, view in revision.views.items()}
    return replace(revision, name=name, views=views)
