"""Connections between nodes alone: a peer in one network namespace, a member's port in another, no model and no engine.

python benchmarks/transport.py [--rounds 5]        (as root: it makes the namespaces)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from quorate.deployments.routing.replica import Address, ConnectedPeer
from quorate.deployments.transport.connection import Connection
from quorate.deployments.transport.keys import ClusterKeys
from quorate.deployments.transport.messages import Frame, Kind, Message, Payload, pack, unpack
from quorate.deployments.transport.tcp import TcpListener
from tests.deployments.support.network_namespaces import FAR, TwoNodes

SMALL = np.zeros((1, 16), np.float32)
LARGE = np.random.default_rng(0).standard_normal((1024, 4096)).astype(np.float32)  # 16 MiB
# name: what is asked, what is sent, calls, calls under way at once
MEASURES = {
    "small, 1 at once": (Kind.CALL, SMALL, 1500, 1),
    "small, 64 at once": (Kind.CALL, SMALL, 15000, 64),
    "16 MiB to the member": (Kind.CALL, LARGE, 24, 2),
    "16 MiB back": (Kind.CALL_PROBABILITIES, SMALL, 24, 2),
}


def answer(connection: Connection, frames: list[Frame]) -> None:
    """What a member would: a small answer to ``CALL``, a large one to ``CALL_PROBABILITIES``."""
    message = unpack(frames)
    if message.kind == Kind.HELLO:
        connection.send(pack(Kind.WELCOME))
    else:
        values = SMALL if message.kind == Kind.CALL else LARGE
        connection.send(pack(Kind.ANSWER, message.call_id, 0.0, (values, np.zeros(len(values), np.uint8))))


async def serve(keys: ClusterKeys) -> None:
    listener = TcpListener(FAR, keys.for_server())
    await listener.open(answer, lambda _: None)
    print(listener.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def measure(peer: ConnectedPeer, kind: Kind, tensor: np.ndarray[Any, Any], calls: int, at_once: int) -> float:
    """Calls per second."""
    payload, loop = Payload([tensor]), asyncio.get_running_loop()

    async def client() -> None:
        for _ in range(calls // at_once):
            answered: asyncio.Future[Message | None] = loop.create_future()
            peer.call(kind, payload, time.monotonic() + 60, answered.set_result)
            assert await answered is not None

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_once)))
    return calls / (time.perf_counter() - started)


async def ask(keys: ClusterKeys, port: int) -> None:
    peer = ConnectedPeer(Address("far", "far", host=FAR, port=port), "near", keys.for_client(), lambda _: None)
    while not peer.ready:  # noqa: ASYNC110 (a peer tells nobody)
        await asyncio.sleep(0.01)
    found = {}
    for name, (kind, tensor, calls, at_once) in MEASURES.items():
        await measure(peer, kind, tensor, 2 * at_once, at_once)
        rate = await measure(peer, kind, tensor, calls, at_once)
        found[name] = rate * LARGE.nbytes / 1e6 if "MiB" in name else rate
    peer.close()
    print(json.dumps(found))


def run(nodes: TwoNodes, keys: str) -> dict[str, float]:
    """One round, in processes of its own."""

    def start(node: str, *words: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", node, sys.executable, __file__, *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(keys + "\n")
        process.stdin.flush()
        return process

    with start(nodes.far, "--serve") as member:
        assert member.stdout is not None
        with start(nodes.near, "--ask", member.stdout.readline().strip()) as fusion:
            said, _ = fusion.communicate()
        member.communicate()
    return dict(json.loads(said))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--ask", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.serve or arguments.ask:
        keys = ClusterKeys.from_json(sys.stdin.readline())
        uvloop.run(serve(keys) if arguments.serve else ask(keys, arguments.ask))
        return
    shared = ClusterKeys.make().to_json().decode()
    with TwoNodes() as nodes:
        rounds = [run(nodes, shared) for _ in range(arguments.rounds)]
    for name in MEASURES:
        values = sorted(found[name] for found in rounds)
        unit = "MB/s" if "MiB" in name else "calls/s"
        print(f"{name:22} {statistics.median(values):8,.0f} {unit}  ({values[0]:,.0f} - {values[-1]:,.0f})")


if __name__ == "__main__":
    main()
