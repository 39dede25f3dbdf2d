"""Digests of the files that a spec names: with them in it, its revision names what is in the files, too."""

from __future__ import annotations

import hashlib
from pathlib import Path

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.model_formats import checkpoint_of


def pin(spec: EnsembleSpec, folder: Path) -> EnsembleSpec:
    """The spec with the digest of every checkpoint in it: its revision now names what is in the files, too."""
    members = {}
    for name, member in spec.members.items():
        checkpoint = checkpoint_of(member)
        if checkpoint and (folder / checkpoint).is_file():
            member = member.model_copy(update={"digest": file_digest(folder / checkpoint)})
        members[name] = member
    return spec.model_copy(update={"members": members})


def file_digest(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
