"""The journal of a sweep: one file for each finished trial, written before the next is proposed.

A sweep that dies is taken up from these files alone. A file is whole or not there, and carries its own digest; one that
is damaged counts as a trial that never ran. One process at a time holds a run folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from quorate.deployments.atomic_files import storage_failed, write_whole
from quorate.tuning.errors import SweepError

PhaseName = Literal["members", "heads", "structures"]


@dataclass(frozen=True)
class Finished:
    """One trial that ran to its end.

    Attributes:
        number: its place in its phase, from 0; everything random in it comes from the seed and this.
        params: what was proposed, flat.
        values: objectives by name, all finite; empty for a trial that failed.
        failure: why it failed, in a sentence.
        details: what else it found, as JSON holds it.
    """

    number: int
    params: Mapping[str, Any]
    values: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """Finished trials of one run folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, phase: PhaseName) -> tuple[dict[int, Finished], list[str]]:
        """Trials by number, and a sentence for each file that is damaged."""
        found: dict[int, Finished] = {}
        damage = []
        for path in sorted((self.folder / "trials" / phase).glob("*.json")):
            try:
                sealed = json.loads(path.read_bytes())
                if sealed["digest"] != content_digest(sealed["trial"]):
                    raise ValueError("digest")
                trial = Finished(**sealed["trial"])
            except (ValueError, KeyError, TypeError, RecursionError):
                damage.append(f"{phase}/{path.name} is damaged: the trial runs again")
                continue
            found[trial.number] = trial
        return found, damage

    def write(self, phase: PhaseName, trial: Finished) -> None:
        """Add a trial.

        Raises:
            SweepError: the disk is full.
        """
        content = json.loads(json.dumps(asdict(trial), allow_nan=False))
        data = json.dumps({"digest": content_digest(content), "trial": content}, indent=1).encode()
        with saving(self.folder):
            write_whole(self.folder / "trials" / phase / f"{trial.number:05d}.json", data)


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turn a full disk into one sentence that says how to go on."""
    try:
        yield
    except OSError as error:
        if not storage_failed(error):
            raise
        raise SweepError(str(folder), f"cannot be written ({error.strerror})", resume_hint(folder)) from error


def resume_hint(folder: Path) -> str:
    return f"make room, then go on with: quorate tune --resume {folder}"


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep a run folder to this process; the lock goes with the process, however it ends.

    Raises:
        SweepError: another process works in it.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "wait for it, or start a sweep of your own: each gets its own folder"
            raise SweepError(str(folder), "another process runs this sweep", fix) from None
        yield


def content_digest(content: Any) -> str:
    """Of what JSON holds, however it is written."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
