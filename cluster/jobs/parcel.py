"""What a command needs of the operator's machine: files by content, each with its path in the folder that it makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quorate.deployments.records.artifact_store import open_store
from quorate.deployments.records.kept_files import KeptFile, revision_files
from quorate.deployments.spec.digests import file_digest, pin
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import save_spec
from quorate.deployments.spec.named_files import files_in
from quorate.deployments.spec.outside_files import inside

SPEC = "spec.yaml"


@dataclass(frozen=True)
class Parcel:
    """Files, each where it lies here, and as it is on the other side."""

    files: Sequence[tuple[Path, KeptFile]] = ()

    def below(self, folder: str) -> Parcel:
        """The same in a folder of its own."""
        return Parcel([(path, replace(file, path=f"{folder}/{file.path}")) for path, file in self.files])

    def __add__(self, other: Parcel) -> Parcel:
        return Parcel([*self.files, *other.files])

    def store(self, uri: str) -> None:
        """Have the contents in a store, where the cluster has them from.

        Raises:
            DeployError: it cannot be used.
        """
        store = open_store(uri)
        for path, file in self.files:
            store.add(path, file.digest, file.size_bytes)

    def to_json(self) -> list[Any]:
        """What the other side is told of them."""
        return [astuple(file) for _, file in self.files]


@contextmanager
def spec_parcel(spec: EnsembleSpec, folder: Path) -> Iterator[Parcel]:
    """A spec, as ``spec.yaml``, with all that it names; good while the context lasts."""
    with inside(spec, folder) as (named, place), TemporaryDirectory(prefix="quorate-parcel-") as written:
        path = Path(written, SPEC)
        save_spec(named, path)
        taken = {SPEC: (path, _file(path, SPEC))}
        taken |= {file.path: (source, file) for source, file in revision_files(pin(named, place), place)}
        yield Parcel(tuple(taken.values()))


def path_parcel(path: Path) -> Parcel:
    """A file, or all of a folder, each below the name that it has here."""
    if path.is_dir():
        return folder_parcel(path).below(path.resolve().name)
    return Parcel([(path, _file(path, path.name))])


def folder_parcel(folder: Path) -> Parcel:
    """All files of a folder."""
    return Parcel([(path, _file(path, path.relative_to(folder).as_posix())) for path in files_in(folder)])


def _file(path: Path, name: str) -> KeptFile:
    return KeptFile(name, file_digest(path), path.stat().st_size)
