"""An ensemble with files, in a folder that one machine has on its own disk, and no other machine sees."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.three_nodes.machine import DISK, ROOT, Machine
from tests.cluster.three_nodes.oracle import FOLDER, WEIGHTS, Weights, ensemble

# It refuses to be made without its words, and answers as the oracle does.
_FACTORY = """
import hashlib

from oracle import numbered


def reading(member, words, digest, **config):
    found = hashlib.sha256()
    with open(words, "rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    assert found.hexdigest() == digest
    return numbered(member, **config)
"""


class Travelling:
    """The folder, on a machine's disk.

    Attributes:
        folder: as that machine sees it.
    """

    def __init__(self, machine: Machine, name: str, size_bytes: int = 3 << 20):
        self.name, self.folder, self._here = name, f"{DISK}/{name}", machine.disk / name
        (self._here / "words").mkdir(parents=True)
        digest = hashlib.sha256()
        with (self._here / "words" / "all.bin").open("wb") as file:
            for start in range(0, size_bytes, 1 << 20):
                piece = os.urandom(min(1 << 20, size_bytes - start))
                digest.update(piece)
                file.write(piece)
        self._digest = digest.hexdigest()
        (self._here / "reading_words.py").write_text(_FACTORY)
        (self._here / "oracle.py").write_text((ROOT / FOLDER / "oracle.py").read_text())

    def spec(self, weights: Weights = WEIGHTS, **changes: Any) -> dict[str, Any]:
        """As a spec file holds it."""
        data = ensemble(self.name, weights, config={"words": "./words/all.bin", "digest": self._digest, **changes})
        for member in data["members"].values():
            member["model"] = "reading_words:reading"
        return data

    def copies(self, nodes: Mapping[int, Machine]) -> set[int]:
        """The places of the nodes that have the words on their disks."""
        return {place for place, node in nodes.items() if list(node.disk.glob(f"**/content/{self._digest}"))}

    def delete(self) -> None:
        """As operators do once it is deployed."""
        for path in sorted(self._here.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self._here.rmdir()
        assert not Path(self._here).exists()
