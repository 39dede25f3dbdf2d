"""A training's state on disk: safetensors named by its own digest, so that a damaged file is found before it is read.

Entry points: ``save_checkpoint(folder, epoch, *run.state())`` and ``load_checkpoint(folder) -> Checkpoint``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from quorate.deployments.atomic_files import write_whole, writing_whole
from quorate.deployments.spec.digests import file_digest

_STEM = "state-"


@dataclass(frozen=True)
class Checkpoint:
    """What a folder held.

    Attributes:
        tensors, words: as ``TrainingRun.restore`` takes them; None when there is nothing to go on from.
        damage: what is wrong with the file that was there; None when it is whole, or there was none.
    """

    tensors: Mapping[str, Tensor] | None = None
    words: Mapping[str, Any] | None = None
    damage: str | None = None


def save_checkpoint(folder: Path, epoch: int, tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> Path:
    """Write a state beside the one before it, then remove that: there is a whole one at every moment."""
    data = save(dict(tensors), metadata={"words": json.dumps(words)})
    path = folder / f"{_STEM}{epoch:05d}-{_digest(data)}.safetensors"
    write_whole(path, data)
    for older in _files(folder):
        if older != path:
            older.unlink()
    return path


def load_checkpoint(folder: Path) -> Checkpoint:
    """The newest whole state of a folder; of a damaged one, what is wrong with it."""
    damage = None
    for path in reversed(_files(folder)):
        data = path.read_bytes()
        if path.stem.rpartition("-")[2] != _digest(data):
            damage = f"checkpoint {path.name} has other bytes than were written"
            continue
        try:
            size = int.from_bytes(data[:8], "little")
            words = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["words"])
            return Checkpoint(load(data), words, damage)
        except (ValueError, KeyError, TypeError, RecursionError, SafetensorError):
            damage = f"checkpoint {path.name} is no training's state"
    return Checkpoint(damage=damage)


def drop_checkpoints(folder: Path) -> None:
    """Remove all states: the training is over."""
    for path in _files(folder):
        path.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_STEM}*.safetensors"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def save_weights(model: nn.Module, path: str | Path) -> str:
    """Write the state as safetensors; returns the ``digest`` that a spec names."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_whole(path) as fresh:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, fresh)
    return file_digest(path)
