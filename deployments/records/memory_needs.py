"""What members' replicas were seen to need of a node's memory and of a GPU's, kept for whoever starts them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from quorate.deployments.errors import UnavailableError
from quorate.deployments.records.registry import Store
from quorate.deployments.spec.named_files import member_files
from quorate.deployments.spec.schema import MemberJob, MemberSpec

# Fields of a member that change nothing of what a replica needs.
_OF_NO_WEIGHT = ("resources", "replicas", "stall_timeout_s", "max_memory_bytes", "share")
# What is seen to grow by less is not written down again.
GROWTH = 1.1


@dataclass(frozen=True)
class Needs:
    """What one replica needs.

    Attributes:
        memory_bytes: of its node's, that it shares with no other process.
        gpu_bytes: of its GPU's.
        measured: of a replica that ran; else its files' size, which it needs at least.
        passes: how the forward passes of members that share the process were run, see ``MemberGroup.passes``.
    """

    memory_bytes: int = 0
    gpu_bytes: int = 0
    measured: bool = False
    passes: str = ""

    def __str__(self) -> str:
        parts = [gigabytes(self.memory_bytes)] if self.memory_bytes else []
        parts += [f"{gigabytes(self.gpu_bytes)} of a GPU"] if self.gpu_bytes else []
        if not parts:
            return ""
        return " and ".join(parts) if self.measured else f"{' and '.join(parts)} or more"


NOTHING_KNOWN = Needs()


class MemoryNeeds:
    """Reads and writes one store, by what runs, whatever it is called and whatever resources it has."""

    def __init__(self, store: Store):
        self._store = store

    def of(self, jobs: Sequence[MemberJob]) -> Needs | None:
        """What was measured of a process of these members; None where none ran on this cluster."""
        stored = self._store.get(_key(jobs))
        return Needs(**json.loads(stored)) if stored else None

    def note(self, jobs: Sequence[MemberJob], found: Needs) -> None:
        """Keep the most that was seen; where the store does not answer, nothing."""
        with suppress(UnavailableError):
            known = self.of(jobs) or Needs(measured=True)
            grown = _grown(known.memory_bytes, found.memory_bytes) or _grown(known.gpu_bytes, found.gpu_bytes)
            if grown or known.passes != found.passes:
                memory = max(known.memory_bytes, found.memory_bytes)
                most = Needs(memory, max(known.gpu_bytes, found.gpu_bytes), measured=True, passes=found.passes)
                self._store.put(_key(jobs), json.dumps(asdict(most)).encode())


def needs_of(jobs: Sequence[MemberJob], files_bytes: Mapping[str, int], known: MemoryNeeds) -> Needs:
    """What a process of these members will need: as measured, or at least what their files hold.

    Args:
        files_bytes: of each member's files, by its name.
    """
    measured = known.of(jobs)
    if measured is not None:
        return measured
    on_gpu = sum(files_bytes[job.name] for job in jobs if job.member.resources.num_gpus)
    return Needs(sum(files_bytes[job.name] for job in jobs) - on_gpu, on_gpu)


def file_bytes(name: str, member: MemberSpec, folder: Path) -> int:
    """Of the files that the spec names for a member, folders with all that is in them."""
    places = [folder / named.path for named in member_files(name, member)]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    return sum(file.stat().st_size for file in files if file.is_file())


def _grown(known: int, found: int) -> bool:
    return found > known * GROWTH


def _key(jobs: Sequence[MemberJob]) -> str:
    told = json.dumps([_told(job) for job in jobs], sort_keys=True)
    return f"memory/{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def _told(job: MemberJob) -> dict[str, object]:
    told: dict[str, object] = job.model_dump(mode="json", exclude={"ensemble": True, "name": True})
    member = {name: value for name, value in _mapping(told["member"]).items() if name not in _OF_NO_WEIGHT}
    # By content: a file of another name is the same.
    digests = sorted(map(str, _mapping(told.get("digests") or {}).values()))
    return told | {"digests": digests, "member": member, "gpu": bool(job.member.resources.num_gpus)}


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value


def gigabytes(count: float) -> str:
    """A size as people read it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(round(count / 1e6), 1)} MB"
