"""Lines between fusion and member replicas: who may speak on them, and what garbage or silence on them does."""

import asyncio
import contextlib
import os
import secrets

import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.deployments.curve import guarded_router, key_pair
from quorate.deployments.engine import Engine
from quorate.deployments.framing import Kind, RowStatus, pack, unpack
from quorate.deployments.inference import InferenceLoop
from quorate.deployments.models import load_model
from quorate.deployments.peers import MAX_UNREAD, Address, Peer
from quorate.deployments.prediction import Predictor
from tests.deployments.member_processes import FACTORIES, assert_right, ensemble, row, serving, until

ONE_MEMBER = ensemble(("a",))


def inference_loop(socket):
    job = ONE_MEMBER.job("a")
    loop = InferenceLoop(Predictor(load_model("a", job.member, FACTORIES), job), ("row",), 64, [socket])
    loop.start()
    return loop


@contextlib.contextmanager
def member_on_tcp(secret):
    """One member in this process behind a port that wants proof; yields its address."""
    with zmq.Context() as context:
        socket, authenticator = guarded_router(context, secret)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        loop = inference_loop(socket)
        try:
            yield Address("r", "elsewhere", "", f"tcp://127.0.0.1:{port}", key_pair(secret, "member").public)
        finally:
            loop.drain(10)
            authenticator.stop()


@contextlib.contextmanager
def member_on_ipc(folder):
    with zmq.Context() as context:
        socket = context.socket(zmq.ROUTER)
        socket.bind(f"ipc://{folder}/member")
        loop = inference_loop(socket)
        try:
            yield f"ipc://{folder}/member"
        finally:
            loop.drain(10)


def test_port_answers_only_who_proves_the_cluster_key():
    secret, other = secrets.token_bytes(32), secrets.token_bytes(32)

    async def answer_with(address, keys):
        engine = Engine(ONE_MEMBER, FACTORIES, "node", keys)
        try:
            for _ in range(20):
                engine.set_replicas("a", {"r": address})
                with contextlib.suppress(AssertionError):
                    await until(lambda: engine.ready()["a"] == 1, timeout_s=0.05)
                    return await engine.infer(row(3))
            return None
        finally:
            engine.close()

    with member_on_tcp(secret) as address:
        for refused in (key_pair(other, "fusion").for_client(), key_pair(secret, "member").for_client(), None):
            assert asyncio.run(answer_with(address, refused)) is None
        assert_right(asyncio.run(answer_with(address, key_pair(secret, "fusion").for_client())), row(3))


TENSORS = st.sampled_from(
    [
        np.zeros((2, 3), np.int64), np.zeros((0, 3), np.int64), np.zeros((2, 0), np.int64), np.zeros((), np.int64),
        np.full((2, 3), b"x", dtype=object), np.zeros((1, 2**10), np.float16), np.full((3, 3), 2**62),
    ]
)  # fmt: skip
MESSAGES = st.one_of(
    st.lists(st.binary(max_size=40), min_size=1, max_size=4),
    st.builds(
        pack,
        st.sampled_from([kind for kind in Kind if kind not in (Kind.HELLO, Kind.FAILURE)]),
        st.integers(0, 2**64 - 1),
        st.floats(width=32),
        st.lists(TENSORS, max_size=3),
    ),
)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_garbage_never_ends_a_member(tmp_path):
    with member_on_ipc(tmp_path) as endpoint, zmq.Context() as context, context.socket(zmq.DEALER) as line:
        line.setsockopt(zmq.LINGER, 0)
        line.setsockopt(zmq.RCVTIMEO, 10_000)
        line.connect(endpoint)

        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(MESSAGES, min_size=1, max_size=5))
        def send(messages):
            for message in messages:
                line.send_multipart(message)
            line.send_multipart(pack(Kind.HELLO))
            while unpack(line.recv_multipart()).kind != Kind.WELCOME:
                pass

        send()
        line.send_multipart(pack(Kind.CALL, 5, 10.0, [row(9)["row"]]))
        reply = unpack(line.recv_multipart())
        assert (reply.kind, reply.call_id) == (Kind.ANSWER, 5)
        assert reply.tensors[1].tolist() == [RowStatus.OK]


def answers():
    """What a member that has gone mad may say about one row: anything at all."""
    values = st.sampled_from(
        [
            np.full((1, 4), 0.25, np.float32), np.zeros((1, 3), np.float32), np.zeros((2, 4), np.float32),
            np.zeros((1, 0), np.float32), np.zeros((1, 2, 2), np.float32), np.zeros((), np.float32),
            np.full((1, 4), b"x", dtype=object), np.full((1, 4), np.nan, np.float32), np.zeros((1, 4), np.int8),
        ]
    )  # fmt: skip
    status = st.sampled_from(
        [np.zeros(1, np.uint8), np.full(1, 200, np.uint8), np.zeros(2, np.uint8), np.zeros(1, np.float64),
         np.full(1, b"", dtype=object)]
    )  # fmt: skip
    return st.lists(st.one_of(values, status), max_size=3).flatmap(
        lambda other: st.one_of(st.just(other), st.tuples(values, status).map(list))
    )


def test_mad_member_costs_only_itself(tmp_path):
    """Every answer it makes up is either refused, or a well-formed answer that it is entitled to give."""
    spec = ensemble(("a", "b"))

    async def ask(endpoints, reply):
        async def mad(socket):
            while True:
                if not socket.poll(0):
                    await asyncio.sleep(0.001)
                    continue
                peer, *frames = socket.recv_multipart()
                message = unpack(frames)
                if message.kind == Kind.HELLO:
                    socket.send_multipart([peer, *pack(Kind.WELCOME)])
                elif message.kind == Kind.CALL_PROBABILITIES:
                    raw = reply if reply and isinstance(reply[0], bytes) else None
                    socket.send_multipart([peer, *(raw or pack(Kind.ANSWER, message.call_id, 0.0, reply))])

        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(endpoints["b"])
            speaker = asyncio.create_task(mad(socket))
            engine = Engine(spec, FACTORIES, "node")
            try:
                for name, endpoint in endpoints.items():
                    engine.set_replicas(name, {"r": Address("r", "node", endpoint, "")})
                await until(lambda: all(engine.ready().values()))
                answer = await engine.infer(row(4))
                assert "a" in answer.members_used
                assert np.isfinite(answer.values).all()
                if "b" in answer.members_missing:
                    assert_right(answer, row(4))
            finally:
                engine.close()
                speaker.cancel()

    with member_on_ipc(tmp_path) as endpoint:

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.one_of(answers(), st.lists(st.binary(max_size=40), min_size=1, max_size=3)))
        def ask_beside(reply):
            mad_endpoint = f"ipc://{tmp_path}/mad{secrets.token_hex(4)}"
            asyncio.run(ask({"a": endpoint, "b": mad_endpoint}, reply))

        ask_beside()


def test_replica_that_reads_nothing_is_cut_off_instead_of_fed_for_ever():
    async def scenario():
        async with serving(ONE_MEMBER) as (engine, fleet):
            [replica] = fleet.replicas["a"]
            lost = []
            line = Peer(engine._context, replica.address, "node", None, lost.append)
            await until(lambda: line.ready)
            replica.stop()
            payload = np.frombuffer(os.urandom(3 * 8 * 100), np.int64).reshape(100, 3)
            replies = []
            for _ in range(3 * MAX_UNREAD):
                if line.closed:
                    break
                line.call(Kind.CALL, [payload], 100, 1e12, replies.append)
                await asyncio.sleep(0)
            assert lost == [line]
            assert replies
            assert set(replies) == {None}
            assert line.outstanding_rows == 0
            replica.resume()
            assert engine.ready()["a"] == 1

    asyncio.run(scenario())
