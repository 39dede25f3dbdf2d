"""Digests of what a spec names outside itself: with them in it, its revision names files and code, too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from quorate.deployments.errors import SpecError
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.factory_code import code_digest, code_place
from quorate.deployments.spec.named_files import NamedFile, ensemble_files, files_in, found_files, member_files
from quorate.deployments.spec.schema import MemberJob, MemberSpec


def pin(spec: EnsembleSpec, folder: Path) -> EnsembleSpec:
    """The spec with the digests of all files that it names, and of the code beside it that makes its members.

    What is pinned is another revision when a file has changed, and other replicas where it is a member's.
    """
    digests, members = _of_files(ensemble_files(spec), folder), {}
    for name, member in spec.members.items():
        checkpoint = _of_files(member_files(name, member), folder)
        digests |= {**checkpoint, **_of_settings(name, member, folder)}
        if checkpoint:  # weights come first
            member = member.model_copy(update={"digest": next(iter(checkpoint.values()))})
        members[name] = member
    return spec.model_copy(update={"members": members, "digests": digests})


def check_fusions(spec: EnsembleSpec, folder: Path) -> None:
    """Refuse states that are not those that were deployed: one revision's name stands for one content.

    Raises:
        SpecError: a file has changed or is gone.
    """
    wanted = {field: digest for field, digest in spec.digests.items() if not field.startswith("members.")}
    if wanted:
        _compare(wanted, _of_files(ensemble_files(spec), folder))


def check_member(job: MemberJob, folder: Path) -> None:
    """Refuse files and code of a member that are not those that were deployed.

    Its checkpoint is compared by whoever loads it.

    Raises:
        SpecError: a file has changed or is gone.
    """
    checkpoint = {file.field for file in member_files(job.name, job.member)}
    wanted = {field: digest for field, digest in job.digests.items() if field not in checkpoint}
    if wanted:
        _compare(wanted, _of_settings(job.name, job.member, folder))


def file_digest(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes; of a folder's files, their names among them."""
    if path.is_dir():
        return folder_digest(path, {inner: file_digest(inner) for inner in files_in(path)})
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def folder_digest(path: Path, digests: Mapping[Path, str]) -> str:
    """``sha256:<hex>`` of a folder, of the digests of its files in the order of ``files_in``."""
    lines = (f"{inner.relative_to(path).as_posix()}\0{digest}\n" for inner, digest in digests.items())
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _of_settings(name: str, member: MemberSpec, folder: Path) -> dict[str, str]:
    """Of what a config names and of a factory's code, which has the field ``members.NAME.code``."""
    found = _of_files(found_files(name, member, folder), folder)
    code = code_digest(member.model, code_place(member.model, folder))
    return found if code is None else {**found, f"members.{name}.code": code}


def _of_files(files: Iterable[NamedFile], folder: Path) -> dict[str, str]:
    return {file.field: file_digest(folder / file.path) for file in files if (folder / file.path).exists()}


def _compare(wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    for field, digest in wanted.items():
        if found.get(field) != digest:
            has = f"it has {found[field]}" if field in found else "it is gone"
            raise SpecError(field, f"{has}, and {digest} was deployed", "restore it, or deploy it as it is now")
