"""A composite's training from its first epoch, or from where it was cut off, to its last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from quorate.tuning.composite.composite_job import CompositeJob
from quorate.tuning.composite.composite_run import CompositeRun
from quorate.tuning.errors import TuningError
from quorate.tuning.training.checkpoint import load_checkpoint, save_checkpoint
from quorate.tuning.training.epochs import Epoch

_ASKED = "asked"


def run_job(job: CompositeJob, place: Path, on_epoch: Callable[[Epoch], None]) -> CompositeRun:
    """Train in this process, or take up what the folder holds; the network is that of its best epoch.

    Args:
        place: where the state is written after each epoch.
        on_epoch: told of each.

    Raises:
        TuningError: another training was written there, or no epoch's loss was finite.
    """
    place.mkdir(parents=True, exist_ok=True)
    asked, run = job_digest(job), job.start()
    found = load_checkpoint(place)
    if found.tensors is not None and found.words is not None:
        restore(run, found.tensors, dict(found.words), asked)
    while not run.finished:
        epoch = run.step()
        save(run, place, asked)
        on_epoch(epoch)
    run.load_best()
    return run


def save(run: CompositeRun, place: Path, asked: str) -> None:
    """Write the state after an epoch."""
    tensors, words = run.state()
    save_checkpoint(place, len(run.history), tensors, {**words, _ASKED: asked})


def restore(run: CompositeRun, tensors: dict[str, Tensor] | Any, words: dict[str, Any], asked: str) -> None:
    """Go on from a state.

    Raises:
        TuningError: it is of another training.
    """
    if words.pop(_ASKED, None) != asked:
        found = "it was begun with another spec, other rows or settings"
        raise TuningError("resume", found, "give what it was begun with, or begin anew without")
    run.restore(tensors, words)


def job_digest(job: CompositeJob) -> str:
    """Of all that decides what a training comes to."""
    settings = {
        "spec": job.spec.model_dump(mode="json", exclude={"serving"}),
        "part": asdict(job.part),
        "training": asdict(job.training),
        "objective": asdict(job.objective),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for columns in (job.rows, job.validation, job.unlabelled):
        if columns is None:
            continue
        tensors = [*columns.values.values(), *columns.there.values(), columns.labels, columns.teacher]
        for tensor in tensors:
            if tensor is not None:
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
