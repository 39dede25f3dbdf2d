"""Copies of the files that a publication names, by content: what restarts or rolls back finds what was published."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from quorate.deployments.spec.digests import file_digest
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.factory_code import code_files, code_place
from quorate.deployments.spec.named_files import config_files, named_files


def keep_files(spec: EnsembleSpec, folder: Path, root: Path) -> Path:
    """Copy what a pinned spec names, and lies beside it, into a folder of this revision; returns that folder.

    The same content is kept once for all revisions. Files that the spec names by paths that lead out of its folder stay
    where they are; their digests are compared when they are loaded.

    Args:
        folder: what the spec's relative paths start from.
        root: where copies are kept.
    """
    kept = root / spec.name / spec.revision
    for source, path in _files(spec, folder):
        target = kept / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(_content(source, root), target)
    return kept


def drop_all_but(ensemble: str, revisions: set[str], root: Path) -> None:
    """Delete what is kept of an ensemble's other revisions, and content that no revision has any more."""
    for kept in (root / ensemble).glob("*"):
        if kept.name not in revisions:
            shutil.rmtree(kept, ignore_errors=True)
    for content in (root / ".content").glob("*"):
        if content.stat().st_nlink == 1:
            content.unlink()


def _files(spec: EnsembleSpec, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each file, and its path in a folder of the revision."""
    configs = (file for name, member in spec.members.items() for file in config_files(name, member, folder))
    for file in (*named_files(spec), *configs):
        if file.inside:
            yield folder / file.path, Path(file.path)
    for member in spec.members.values():
        place = code_place(member.model, folder)
        yield from ((place / path, path) for path in code_files(member.model, place))


def _content(source: Path, root: Path) -> Path:
    content = root / ".content" / file_digest(source).removeprefix("sha256:")
    if not content.exists():
        content.parent.mkdir(parents=True, exist_ok=True)
        partial = content.with_suffix(f".{os.getpid()}")
        shutil.copyfile(source, partial)
        partial.replace(content)
    return content
