"""A member that answers a gigabyte to one row costs its own answer, and the fusion no memory."""

import asyncio
import socket
from typing import Any

import numpy as np
import psutil
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.routing.replica import Address, ConnectedPeer
from quorate.deployments.transport.framing import to_stream
from quorate.deployments.transport.messages import Kind, Payload, max_answer_bytes, pack
from tests.deployments.support.member_processes import serving
from tests.deployments.support.member_threads import running

GIANT, MOST_GROWTH = 1 << 30, 64 << 20
ROWS = [np.zeros((1, 3), np.float32)]


def spec(**fusion):
    members = {
        name: {"model": "giant:giant", "config": {"nbytes": size}, "inputs": ["x"], "output": "values"}
        for name, size in [("big", GIANT), ("small", 4)]
    }
    inputs = {"x": {"datatype": "FP32", "shape": [1]}}
    fusion = {"rule": "mean", "deadline_s": 60.0, **fusion}
    return {"name": "giant", "inputs": inputs, "members": members, "fusion": fusion}


@pytest.mark.long
def test_an_answer_of_a_gigabyte_is_an_error_of_its_member_and_the_next_rows_are_answered():
    async def scenario():
        async with serving(parse_spec(spec())) as (engine, _):
            await engine.infer({"x": np.zeros((1, 1), np.float32)})
            before = psutil.Process().memory_info().rss
            answer = await engine.infer({"x": np.ones((1, 1), np.float32)})
            assert dict(answer.members_missing) == {"big": "error"}
            assert psutil.Process().memory_info().rss - before < MOST_GROWTH
            assert not (await engine.infer({"x": np.zeros((1, 1), np.float32)})).degraded

    asyncio.run(scenario())


def test_a_replica_that_announces_a_gigabyte_is_cut_before_memory_is_taken(tmp_path):
    path = tmp_path / "mad"

    async def scenario():
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            lost = asyncio.Event()
            replies: list[Any] = []
            peer = ConnectedPeer(Address("r", "here", str(path)), "here", None, lambda peer: lost.set())
            far, _ = await loop.run_in_executor(None, listening.accept)
            peer.call(Kind.CALL, Payload(ROWS), 1e12, replies.append)
            head = b"".join(map(bytes, to_stream(pack(Kind.ANSWER, 1, 0.0, ROWS))))[:8]
            far.sendall(head[:4] + (2).to_bytes(4, "little") + (64).to_bytes(8, "little") + GIANT.to_bytes(8, "little"))
            before = psutil.Process().memory_info().vms
            await asyncio.wait_for(lost.wait(), 20)
            assert psutil.Process().memory_info().vms - before < MOST_GROWTH
            assert replies == [None]
            far.close()

    asyncio.run(scenario())


def test_the_more_rows_were_asked_for_the_larger_an_answer_may_be():
    assert max_answer_bytes(1) < GIANT < max_answer_bytes(1024)


@pytest.mark.long
def test_large_answers_to_many_rows_are_answers():
    async def scenario():
        async with running({**spec(), "members": {**spec()["members"], "big": small(6 << 20)}}) as engine:
            answer = await engine.infer({"x": np.ones((30, 1), np.float32)}, explain=True)
            assert answer.explanation.outputs["big"].nbytes == 30 * (6 << 20)

    asyncio.run(scenario())


def small(nbytes):
    return {**spec()["members"]["big"], "config": {"nbytes": nbytes}}
