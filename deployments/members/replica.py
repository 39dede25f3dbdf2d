"""What a process of members runs: models on one device, one inference thread, a socket file and a port."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.logs.files import LogFile
from quorate.deployments.members.garbage_collection import spare_loaded
from quorate.deployments.members.inference_loop import InferenceLoop
from quorate.deployments.members.loaded_member import LoadedMember, load_all, needs_of_process, resident_bytes
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.records.memory_needs import Needs
from quorate.deployments.spec.schema import MemberJob
from quorate.deployments.transport.connection import Listener
from quorate.deployments.transport.keys import ClusterKeys
from quorate.deployments.transport.tcp import TcpListener
from quorate.deployments.transport.unix import UnixListener, remove_dead_sockets

# A replica that is told to stop takes calls for this long yet: its successor is known everywhere before it leaves.
HANDOVER_S = 1.0
DRAIN_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Place:
    """Where a replica runs, and how others reach it.

    Attributes:
        socket_folder: for the socket file that fusion replicas of its node use.
        keys: of the cluster; those of other nodes prove that they have them.
    """

    replica_id: str
    node_id: str
    host: str
    socket_folder: Path
    keys: ClusterKeys


class MemberReplica:
    """Loads and warms up the models, then answers batches until it is stopped.

    Attributes:
        address: what a fusion replica needs to know to reach it; see ``routing.replica.Address``.
        members: that it runs.
        forward_s: by member, seconds that one row takes; of members that share the process, where that is known.

    Raises:
        SpecError: files or code are not those that were deployed.
        MemberLoadError: a model cannot be loaded, or fails on an example.
    """

    def __init__(self, jobs: Sequence[tuple[MemberJob, LogFile]], folder: Path, place: Place):
        """Args:
        jobs: of each member what it is, and where it writes.
        """
        started = time.monotonic()
        self.members = load_all(jobs, folder, place.replica_id)
        self._limit_bytes = memory_limit_bytes([member.job for member in self.members])
        self._check_first_memory()
        measured = {one.job.name: one.measure_s() for one in self.members} if len(self.members) > 1 else {}
        self.forward_s = {name: seconds for name, seconds in measured.items() if seconds is not None}
        listeners = self._listen(place)
        self._group = MemberGroup([one.predictor for one in self.members], [one.telemetry for one in self.members])
        self._inference = InferenceLoop(self._group, listeners)
        spare_loaded()
        self._inference.start()
        if len(self.members) > 1:
            self.members[0].log.write(f"shares its process: {self._group.passes()}")
        for member in self.members:
            member.log.write(f"serves on {member.predictor.model.device}, after {time.monotonic() - started:.1f} s")

    def _listen(self, place: Place) -> list[Listener]:
        between_nodes = TcpListener(place.host, place.keys.for_server())
        remove_dead_sockets(place.socket_folder)
        path = place.socket_folder / place.replica_id
        self.address: dict[str, Any] = {
            "replica_id": place.replica_id,
            "node_id": place.node_id,
            "path": str(path),
            "host": place.host,
            "port": between_nodes.port,
            **announced(self.members),
        }
        return [UnixListener(path), between_nodes]

    @property
    def busy_s(self) -> float:
        """Time spent in forward passes so far."""
        return self._inference.busy_s

    @property
    def queued_rows(self) -> int:
        return self._inference.queued_rows

    @property
    def needs(self) -> Needs:
        """What it has been seen to need of memory so far."""
        return needs_of_process(self.members, self._group.passes())

    def check_health(self) -> None:
        """Raise RuntimeError when the process had better be replaced."""
        for member in self.members:
            member.log.touch()
        check_progress(self.members[self._group.running], self._inference.stalled_s())
        for member in self.members:
            check_device(member)
        if not self._inference.is_alive():
            raise RuntimeError(f"{self._who} has no inference thread any more")
        if held := self._bytes_over_limit():
            raise RuntimeError(f"{self._who} holds {held:,} bytes, over its max_memory_bytes of {self._limit_bytes:,}")

    @property
    def _who(self) -> str:
        names = [f"'{member.job.name}'" for member in self.members]
        return f"member {names[0]}" if len(names) == 1 else f"the process of members {', '.join(names)}"

    @property
    def held_bytes(self) -> int:
        """What the process keeps in memory (resident), and others that run its models."""
        return resident_bytes(*(member.predictor.model.pid for member in self.members))

    def _check_first_memory(self) -> None:
        """A limit that the models alone pass would have replicas replaced for ever."""
        if held := self._bytes_over_limit():
            found = f"max_memory_bytes is {self._limit_bytes:,} but a replica holds {held:,} once its model is loaded"
            raise MemberLoadError(self.members[0].job.name, found, "give the limit room for requests, or remove it")

    def _bytes_over_limit(self) -> int:
        """What the process holds where that is more than it may; else 0."""
        if self._limit_bytes is None:
            return 0
        held = self.held_bytes
        return held if held > self._limit_bytes else 0

    def stop(self) -> None:
        """Answer what comes while others learn of the successor, finish, and leave."""
        if self._inference.is_alive():
            time.sleep(HANDOVER_S)
            self._inference.drain(timeout_s=DRAIN_TIMEOUT_S)
        for member in self.members:
            member.telemetry.close()


def announced(members: Sequence[LoadedMember]) -> dict[str, Any]:
    """What an ``Address`` says of the members of a replica."""
    if len(members) == 1:
        datatype, dims = members[0].output
        return {"datatype": datatype, "dims": dims}
    return {"members": tuple(m.job.name for m in members), "outputs": tuple(m.output for m in members)}


def memory_limit_bytes(jobs: Sequence[MemberJob]) -> int | None:
    """What a process of these members may hold: all that they may together, where they have a limit."""
    limits = [job.member.max_memory_bytes for job in jobs]
    return None if None in limits else sum(filter(None, limits))


def check_progress(member: LoadedMember, stalled_s: float) -> None:
    """Raise RuntimeError where a member's pass has been under way for longer than it may."""
    if stalled_s > member.job.member.stall_timeout_s:
        raise RuntimeError(f"member '{member.job.name}' has made no progress for {stalled_s:.0f} s")


def check_device(member: LoadedMember) -> None:
    """Raise RuntimeError where a member's device is of no use to this process any more."""
    if member.predictor.device_lost:
        raise RuntimeError(f"member '{member.job.name}' lost its device: {member.predictor.last_error}")
