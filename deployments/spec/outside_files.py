"""Files that a spec names and that lie elsewhere, brought inside: what travels is one folder, wherever they lay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.model_formats import model_path
from quorate.deployments.spec.named_files import NamedFile, found_files, named_files, with_paths

_PLACE = "outside"


@contextmanager
def inside(spec: EnsembleSpec, folder: Path) -> Iterator[tuple[EnsembleSpec, Path]]:
    """The spec with all its paths inside one folder, and that folder.

    It is the spec itself and its own folder unless a path is absolute or leads out; then it is one of links. Where a
    file is in it is told by the field that names it: the same spec is the same revision wherever it is deployed from.
    """
    found = [file for name, member in spec.members.items() for file in found_files(name, member, folder)]
    outside = [file for file in (*named_files(spec), *found) if not file.inside and (folder / file.path).exists()]
    if not outside:
        yield spec, folder
        return
    with TemporaryDirectory(prefix="quorate-outside-") as place:
        links = Path(place)
        for entry in folder.iterdir():
            if entry.name != _PLACE:
                (links / entry.name).symlink_to(entry.resolve())
        beside = [file for file in outside if _is_data(file)]
        paths = {file.field: f"{_PLACE}/{file.field}/{Path(file.path).name}" for file in outside if file not in beside}
        for file in outside:
            link = links / paths[file.field] if file.field in paths else links / _beside(spec, file, paths)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((folder / file.path).resolve())
        data = spec.model_dump(mode="json", exclude_defaults=True, exclude={"digests"})
        yield parse_spec(with_paths(data, paths)), links


def _is_data(file: NamedFile) -> bool:
    """Whether a model's own file names it, from where that lies."""
    return file.field.startswith("members.") and ".model.data." in file.field


def _beside(spec: EnsembleSpec, file: NamedFile, paths: dict[str, str]) -> Path:
    name = file.field.split(".")[1]
    model = Path(model_path(spec.members[name].model) or "")
    return Path(paths[f"members.{name}.model"]).parent / Path(file.path).relative_to(model.parent)
