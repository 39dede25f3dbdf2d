"""What members need, measured where they may run: how long one row takes, how much memory, and how long a message."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from quorate.deployments.logs.files import LogFile
from quorate.deployments.members.inference_loop import InferenceLoop
from quorate.deployments.members.loaded_member import LoadedMember, timed_s
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.spec.schema import MemberJob
from quorate.deployments.transport.framing import StreamCutter, to_stream
from quorate.deployments.transport.messages import Kind, pack, unpack
from quorate.deployments.transport.unix import UnixListener
from quorate.fusion.errors import QuorateError

_WAIT_S = 5.0
# Messages come now and then: right after another one takes a third, and nobody is woken up.
_PAUSE_S = 0.002


def measure_members(jobs: Sequence[MemberJob], folder: Path, where: str) -> tuple[float, dict[str, tuple[float, int]]]:
    """Load members one after another, and measure them.

    Args:
        where: what their logs call this.

    Returns:
        Seconds that a message takes to a member and back; by name seconds and bytes of each member. One that cannot be
        loaded, or of which no example is known, is missing: its replica will say what is the matter.
    """
    hop_s, found = 0.0, {}
    for job in jobs:
        try:
            member = LoadedMember(job, folder, where, LogFile(job.ensemble, job.name, where))
        except QuorateError:
            continue
        seconds = member.measure_s()
        if seconds is not None:
            found[job.name] = seconds, member.model_bytes
            hop_s = hop_s or _measure_hop_s(member)
        member.telemetry.close()
    return hop_s, found


def _measure_hop_s(member: LoadedMember) -> float:
    """What a row takes through a replica's socket and back, without its pass: packing, waking up, reading, queueing."""
    example = member.predictor.example(rows=1)
    assert example is not None
    rows = list(example.values())
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        path = Path(folder, "hop")
        loop = InferenceLoop(MemberGroup([member.predictor]), [UnixListener(path)])
        loop.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_WAIT_S)
            client.connect(str(path))
            cutter = StreamCutter()

            def ask() -> None:
                client.sendall(b"".join(to_stream(pack(Kind.CALL_PROBABILITIES, 1, _WAIT_S, rows))))
                while not (found := cutter.filled(client.recv_into(cutter.buffer()))):
                    pass
                unpack(found[0])

            there_and_back_s = timed_s(ask, _PAUSE_S)
        loop.drain(_WAIT_S)
    forward_s = timed_s(lambda: member.predictor.run(example, probabilities=True), _PAUSE_S)
    return max(there_and_back_s - forward_s, 1e-6)
