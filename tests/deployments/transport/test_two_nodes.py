"""An engine on one node and a member on another, between which a cable can be cut."""

import asyncio
import contextlib
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from quorate.deployments.engine.engine import Engine
from quorate.deployments.members.inference_loop import InferenceLoop
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.routing.replica import Address
from quorate.deployments.sources.loading import load_model
from quorate.deployments.transport.keys import ClusterKeys
from quorate.deployments.transport.messages import Kind, Payload
from quorate.deployments.transport.tcp import SILENCE_S, TcpListener
from quorate.deployments.transport.unix import UnixListener
from quorate.fusion.errors import QuorumError
from tests.deployments.support.factories import oracle
from tests.deployments.support.member_processes import FACTORIES, assert_right, ensemble, row, rows, until
from tests.deployments.support.network_namespaces import FAR, TwoNodes

pytestmark = pytest.mark.long

KEYS = ClusterKeys.make()
SPEC = ensemble(("a",), deadline_s=60.0)
# Far more than the kernels of both nodes hold between them, so that the member's receive window closes.
LARGE = np.zeros((1, 100_000_000), np.uint8)


@pytest.fixture(scope="module")
def nodes():
    try:
        made = TwoNodes().__enter__()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    yield made
    made.__exit__()


@contextlib.contextmanager
def member(listener):
    job = SPEC.job("a")
    loop = InferenceLoop(MemberGroup([Predictor(load_model("a", job.member, FACTORIES), job)]), [listener])
    loop.start()
    try:
        yield loop
    finally:
        loop.drain(10)


@contextlib.contextmanager
def far_member(nodes):
    """A member on the far node; yields its inference loop and its address."""
    with nodes.on(nodes.far):
        listener = TcpListener(FAR, KEYS.for_server())
    with member(listener) as loop:
        yield loop, Address("far", "far", host=FAR, port=listener.port)


def on_the_near_node(nodes, addresses, scenario):
    """Run ``scenario`` with an engine there that has found the replicas at these addresses."""

    async def found():
        engine = Engine(SPEC, FACTORIES, "near", KEYS.for_client())
        try:
            engine.revisions.set_replicas("a", {address.replica_id: address for address in addresses})
            await until(lambda: engine.ready()["a"] == len(addresses))
            await scenario(engine)
        finally:
            engine.close()

    with nodes.on(nodes.near):
        asyncio.run(found())


def test_answers_come_from_another_node(nodes):
    async def scenario(engine):
        for number in range(1, 20):
            assert_right(await engine.infer(row(number)), row(number))
        many = rows(*((number, oracle.NONE, "") for number in range(1, 1000)))
        assert_right(await engine.infer(many), many)

    with far_member(nodes) as (_, address):
        on_the_near_node(nodes, [address], scenario)


def test_node_that_vanishes_is_noticed_at_both_ends_while_nothing_is_said(nodes):
    async def scenario(engine):
        nodes.cut()
        await until(lambda: engine.ready()["a"] == 0, timeout_s=4 * SILENCE_S)
        await until(lambda: not loop._connections, timeout_s=4 * SILENCE_S)
        assert (engine.ready()["a"], len(loop._connections)) == (0, 0)

    with far_member(nodes) as (loop, address):
        try:
            on_the_near_node(nodes, [address], scenario)
        finally:
            nodes.join()


def test_call_to_a_node_that_vanishes_fails_long_before_its_deadline_and_the_node_is_found_again(nodes):
    async def scenario(engine):
        nodes.cut()
        with pytest.raises(QuorumError, match="a:dead"):
            await asyncio.wait_for(engine.infer(row(4)), 4 * SILENCE_S)
        engine.reconcile()  # to a node that is away
        nodes.join()

        def found():
            engine.reconcile()
            return engine.ready()["a"] == 1

        await until(found)
        assert_right(await engine.infer(row(5)), row(5))

    with far_member(nodes) as (_, address):
        try:
            on_the_near_node(nodes, [address], scenario)
        finally:
            nodes.join()


def test_call_to_a_node_that_vanishes_is_answered_by_another_replica(nodes, tmp_path):
    path = Path(tmp_path) / "a"

    async def scenario(engine):
        far, near = engine.revisions.live.members["a"].replicas.values()
        nodes.cut()
        call = asyncio.create_task(engine.infer(row(6)))
        await until(lambda: far.outstanding_rows == 1)
        assert not near.outstanding_rows
        assert_right(await asyncio.wait_for(call, 4 * SILENCE_S), row(6))

    with far_member(nodes) as (_, address), member(UnixListener(path)):
        try:
            on_the_near_node(nodes, [address, Address("near", "near", str(path))], scenario)
        finally:
            nodes.join()


def test_member_that_computes_for_longer_than_silence_may_last_is_not_cut(nodes):
    """Neither while it is quiet nor while it leaves unread what is sent to it."""

    async def scenario(engine):
        [peer] = engine.revisions.live.members["a"].replicas.values()
        slow = row(7, oracle.SLEEP + int(1500 * SILENCE_S), "a")
        first = asyncio.create_task(engine.infer(slow))
        await until(lambda: peer.outstanding_rows == 1)
        second = asyncio.get_running_loop().create_future()
        peer.call(Kind.CALL, Payload([LARGE, LARGE[:, :1]]), math.inf, second.set_result)
        assert_right(await first, slow)
        assert (await second).text == "2 tensors for 1 inputs"
        assert list(engine.revisions.live.members["a"].replicas.values()) == [peer]

    with far_member(nodes) as (_, address):
        on_the_near_node(nodes, [address], scenario)
