"""Copies of the files that a publication names, by content: what restarts or rolls back finds what was published."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from quorate.deployments.atomic_files import writing_whole
from quorate.deployments.errors import DeployError
from quorate.deployments.spec.digests import file_digest, folder_digest
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.factory_code import code_files, code_place
from quorate.deployments.spec.named_files import (
    NamedFile,
    ensemble_files,
    files_in,
    found_files,
    member_files,
    named_files,
)

_REVISIONS, _CONTENT = "revisions", "content"
_PIECE_BYTES = 1 << 20


def keep_files(spec: EnsembleSpec, folder: Path, root: Path) -> Path:
    """Copy what a pinned spec names, and lies beside it, into a folder of this revision; returns that folder.

    The same content is kept once for all revisions. What else lies beside the spec, such as what a factory reads from
    its own folder, is there as a link. Files that the spec names by absolute paths stay where they are; with a path
    that leads out of its folder nothing is copied, and that folder is returned. What is no copy is compared by its
    digest when it is loaded. Hold the ensemble's lease.

    Args:
        folder: what the spec's relative paths start from.
        root: where copies are kept.

    Raises:
        DeployError: a file has changed since it was pinned.
    """
    if any(not file.inside and not Path(file.path).is_absolute() for file in _named(spec, folder)):
        return folder
    place = root / spec.name
    kept = place / _REVISIONS / spec.revision
    kept.mkdir(parents=True, exist_ok=True)
    for source, path, digest in _files(spec, folder):
        target = kept / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(_content(source, digest, place / _CONTENT), target)
    _link_others(folder, kept)
    return kept


def keep_member(spec: EnsembleSpec, member: str, publication: Path, folder: Path, kept: Path) -> None:
    """Copy what one member of a published spec names into a folder of its own, unless that is there.

    Args:
        publication: where the published files are.
        folder: what the spec's relative paths started from; what else lies there is linked.

    Raises:
        DeployError: a file is not the one that was published.
    """
    if kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{kept.name}.", dir=kept.parent) as place:
        whole = Path(place, kept.name)
        whole.mkdir()
        for source, path, digest in _files_of_member(spec, member, publication):
            target = whole / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(source, target, digest)
        _link_others(folder, whole)
        whole.rename(kept)


def drop_all_but(ensemble: str, revisions: set[str], root: Path) -> None:
    """Delete what is kept of an ensemble's other revisions, and content that no revision has any more.

    Args:
        revisions: the names of the folders that ``keep_files`` gave.
    """
    place = root / ensemble
    for kept in (place / _REVISIONS).glob("*"):
        if kept.name not in revisions:
            shutil.rmtree(kept, ignore_errors=True)
    for content in (place / _CONTENT).glob("*"):
        if content.stat().st_nlink == 1:
            content.unlink()
    for empty in (place / _REVISIONS, place / _CONTENT, place):
        with contextlib.suppress(OSError):  # something is in it, or it is not there
            empty.rmdir()


def _named(spec: EnsembleSpec, folder: Path) -> list[NamedFile]:
    configs = (file for name, member in spec.members.items() for file in found_files(name, member, folder))
    return [*named_files(spec), *configs]


def _files(spec: EnsembleSpec, folder: Path) -> Iterator[tuple[Path, Path, str]]:
    """Each file, its path in a folder of the revision, and its digest."""
    yield from _pinned(spec, ensemble_files(spec), folder)
    for name in spec.members:
        yield from _files_of_member(spec, name, folder)


def _files_of_member(spec: EnsembleSpec, name: str, folder: Path) -> Iterator[tuple[Path, Path, str]]:
    member = spec.members[name]
    yield from _pinned(spec, [*member_files(name, member), *found_files(name, member, folder)], folder)
    place = code_place(member.model, folder)
    for path in code_files(member.model, place):
        yield place / path, path, file_digest(place / path)


def _pinned(spec: EnsembleSpec, files: list[NamedFile], folder: Path) -> Iterator[tuple[Path, Path, str]]:
    for file in files:
        if not file.inside or file.field not in spec.digests:
            continue
        path, wanted = folder / file.path, spec.digests[file.field]
        digests = {inner: file_digest(inner) for inner in files_in(path)} if path.is_dir() else {path: wanted}
        if path.is_dir() and folder_digest(path, digests) != wanted:
            raise _changed(path)
        for inner, digest in digests.items():
            yield inner, inner.relative_to(folder), digest


def _link_others(folder: Path, kept: Path) -> None:
    """Links to what is in the one folder and not in the other."""
    for entry in folder.iterdir():
        target = kept / entry.name
        if not os.path.lexists(target):
            target.symlink_to(entry.resolve())
        elif entry.is_dir() and target.is_dir() and not target.is_symlink():
            _link_others(entry, target)


def _content(source: Path, digest: str, contents: Path) -> Path:
    """The copy of this content, made where there is none yet."""
    content = contents / digest.removeprefix("sha256:")
    if not content.exists():
        contents.mkdir(parents=True, exist_ok=True)
        with writing_whole(content) as partial:
            _copy(source, partial, digest)
    return content


def _copy(source: Path, target: Path, digest: str) -> None:
    """Copy a file of this digest.

    Raises:
        DeployError: it has another.
    """
    copied = hashlib.sha256()
    with source.open("rb") as old, target.open("wb") as new:
        while piece := old.read(_PIECE_BYTES):
            copied.update(piece)
            new.write(piece)
    if f"sha256:{copied.hexdigest()}" != digest:
        raise _changed(source)


def _changed(path: Path) -> DeployError:
    return DeployError(f"{path.name} was changed while it was deployed; deploy again")
