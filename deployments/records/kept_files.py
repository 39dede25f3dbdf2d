"""Copies of the files that a publication names, by content: what restarts or rolls back finds what was published."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from quorate.deployments.errors import DamagedContentError, DeployError
from quorate.deployments.records.content_cache import ContentCache
from quorate.deployments.spec.digests import file_digest, folder_digest
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.factory_code import code_files, code_place
from quorate.deployments.spec.named_files import NamedFile, ensemble_files, files_in, found_files, member_files

_REVISIONS = "revisions"
# What no record names may yet become live for so long.
_UNRECORDED_S = 3_600.0


@dataclass(frozen=True)
class KeptFile:
    """A file of a revision.

    Attributes:
        path: in the revision's folder, with slashes.
        part: the member whose it is; empty for the ensemble itself.
    """

    path: str
    digest: str
    size_bytes: int
    part: str = ""


@dataclass(frozen=True)
class KeptFiles:
    """Files of a revision, and where they can be had.

    Attributes:
        name: their folder on every node, from the root of all that is kept.
        store: a URI of pyarrow's file systems that has their contents too; empty for none.
    """

    name: Path
    files: tuple[KeptFile, ...] = ()
    store: str = ""

    def of(self, part: str) -> KeptFiles:
        """Those of one member; of the ensemble itself for an empty name."""
        return self.of_parts((part,))

    def of_parts(self, parts: Collection[str]) -> KeptFiles:
        """Those of several members."""
        return replace(self, files=tuple(file for file in self.files if file.part in parts))

    def to_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"name": str(self.name), "files": [astuple(file) for file in self.files], "store": self.store}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KeptFiles:
        """What ``to_json`` gave."""
        return cls(Path(data["name"]), tuple(KeptFile(*file) for file in data["files"]), data["store"])


def keep_files(
    spec: EnsembleSpec, folder: Path, root: Path, store: str = "", cache: ContentCache | None = None
) -> KeptFiles:
    """Copy what a pinned spec names, and lies beside it, into the folder of this revision.

    The same content is kept once for all ensembles. What else lies beside the spec, such as what a factory reads from
    its own folder, is there as a link. Hold the ensemble's lease.

    Args:
        folder: what the spec's relative paths start from; none of them leads out of it, see ``inside``.
        root: where copies are kept.
        store: where others have them from, too.
        cache: of that root.

    Raises:
        DeployError: a file has changed since it was pinned.
    """
    name = Path(spec.name, _REVISIONS, spec.revision)
    held = _hold(revision_files(spec, folder), root / name, cache or ContentCache(root))
    _link_others(folder, root / name)
    return KeptFiles(name, held, store)


def keep_ensemble_files(
    spec: EnsembleSpec, folder: Path, before: KeptFiles, root: Path, cache: ContentCache
) -> KeptFiles:
    """The same of a revision whose members are those of another: only what is the ensemble's own is copied.

    Args:
        before: the files of that other one.
    """
    name = Path(spec.name, _REVISIONS, spec.revision)
    held = _hold(_pinned(spec, "", ensemble_files(spec), folder), root / name, cache)
    return KeptFiles(name, (*held, *(file for file in before.files if file.part)), before.store)


def _hold(files: Iterable[tuple[Path, KeptFile]], kept: Path, cache: ContentCache) -> tuple[KeptFile, ...]:
    """Copies of files, each from where it lies, in a folder."""
    kept.mkdir(parents=True, exist_ok=True)
    held = []
    for source, file in files:
        try:
            while not cache.link(file.digest, kept / file.path):
                cache.add_file(source, file.digest)
        except DamagedContentError:
            raise _changed(source) from None
        held.append(file)
    return tuple(held)


def drop_all_but(ensemble: str, revisions: set[str], root: Path) -> None:
    """Delete what is kept of an ensemble's other revisions; content stays as long as the cache has room for it.

    Args:
        revisions: the names of the folders to leave.
    """
    place = root / ensemble
    for kept in (place / _REVISIONS).glob("*"):
        if kept.name not in revisions:
            shutil.rmtree(kept, ignore_errors=True)
    for empty in (place / _REVISIONS, place):
        with contextlib.suppress(OSError):  # something is in it, or it is not there
            empty.rmdir()


def drop_unrecorded(recorded: set[Path], root: Path) -> None:
    """Delete folders of revisions, and of shared members, that were dropped while this node did not look.

    Args:
        recorded: those that are somebody's, from ``root``.
    """
    for kept in (*root.glob(f"*/{_REVISIONS}/*"), *root.glob("@*")):
        with contextlib.suppress(FileNotFoundError):
            if kept.relative_to(root) not in recorded and time.time() - kept.stat().st_mtime > _UNRECORDED_S:
                shutil.rmtree(kept, ignore_errors=True)


def drop_damaged(files: Sequence[KeptFile], kept: Path, cache: ContentCache) -> list[KeptFile]:
    """Delete files of a folder that have not their digests any more, so that they are fetched anew; returns them."""
    found = [file for file in files if (kept / file.path).is_file() and file_digest(kept / file.path) != file.digest]
    for file in found:
        (kept / file.path).unlink(missing_ok=True)
        cache.forget(file.digest)
    return found


def revision_files(spec: EnsembleSpec, folder: Path) -> Iterator[tuple[Path, KeptFile]]:
    """What a pinned spec names, and the code beside it: each file where it lies, and as it is kept.

    Raises:
        DeployError: one has changed since it was pinned.
    """
    yield from _pinned(spec, "", ensemble_files(spec), folder)
    for name, member in spec.members.items():
        named = [*member_files(name, member), *found_files(name, member, folder)]
        yield from _pinned(spec, name, named, folder)
        place = code_place(member.model, folder)
        for path in code_files(member.model, place):
            yield place / path, _kept(place / path, path, file_digest(place / path), name)


def _pinned(spec: EnsembleSpec, part: str, files: list[NamedFile], folder: Path) -> Iterator[tuple[Path, KeptFile]]:
    for file in files:
        if file.field not in spec.digests:
            continue
        path, wanted = folder / file.path, spec.digests[file.field]
        digests = {inner: file_digest(inner) for inner in files_in(path)} if path.is_dir() else {path: wanted}
        if path.is_dir() and folder_digest(path, digests) != wanted:
            raise _changed(path)
        for inner, digest in digests.items():
            yield inner, _kept(inner, inner.relative_to(folder), digest, part)


def _kept(source: Path, path: Path, digest: str, part: str) -> KeptFile:
    try:
        return KeptFile(path.as_posix(), digest, source.stat().st_size, part)
    except OSError:
        raise _changed(source) from None


def _link_others(folder: Path, kept: Path) -> None:
    """Links to what is in the one folder and not in the other."""
    for entry in folder.iterdir():
        target = kept / entry.name
        if not os.path.lexists(target):
            target.symlink_to(entry.resolve())
        elif entry.is_dir() and target.is_dir() and not target.is_symlink():
            _link_others(entry, target)


def _changed(path: Path) -> DeployError:
    return DeployError(f"{path.name} was changed while it was deployed; deploy again")
