"""Connections between fusion and member replicas: who may speak on them, and what garbage or silence on them does."""

import asyncio
import contextlib
import secrets
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.deployments.engine.engine import Engine
from quorate.deployments.members.inference_loop import InferenceLoop
from quorate.deployments.members.member_group import MemberGroup
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.routing.replica import SEND_AHEAD_BYTES, Address, ConnectedPeer, Peer
from quorate.deployments.sources.loading import load_model
from quorate.deployments.transport.connection import MAX_UNREAD_BYTES
from quorate.deployments.transport.framing import StreamCutter, to_stream
from quorate.deployments.transport.keys import ClusterKeys
from quorate.deployments.transport.messages import Kind, Payload, pack, pack_failure, unpack
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.transport.tcp import TcpListener
from quorate.deployments.transport.unix import UnixListener
from quorate.deployments.transport.version import OLDEST, VERSION
from tests.deployments.support.member_processes import FACTORIES, assert_right, ensemble, row, serving, until

ONE_MEMBER = ensemble(("a",), deadline_s=30.0)


def inference_loop(listener):
    job = ONE_MEMBER.job("a")
    loop = InferenceLoop(MemberGroup([Predictor(load_model("a", job.member, FACTORIES), job)]), [listener])
    loop.start()
    return loop


@contextlib.contextmanager
def member_on_tcp(keys):
    """One member in this process behind a port that wants proof; yields its address."""
    listener = TcpListener("127.0.0.1", keys.for_server())
    loop = inference_loop(listener)
    try:
        yield Address("r", "elsewhere", host="127.0.0.1", port=listener.port)
    finally:
        loop.drain(10)


@contextlib.contextmanager
def member_on_socket_file(folder):
    path = Path(folder) / "member"
    loop = inference_loop(UnixListener(path))
    try:
        yield path
    finally:
        loop.drain(10)


class Speaker:
    """The far end of a connection within a node, without an event loop."""

    def __init__(self, connected):
        self._socket, self._cutter, self._messages = connected, StreamCutter(), []
        connected.settimeout(10)

    @classmethod
    def to(cls, path):
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(str(path))
        return cls(connected)

    def send(self, frames):
        self._socket.sendall(b"".join(to_stream(frames)))

    def send_bytes(self, data):
        self._socket.sendall(data)

    def receive(self):
        """The next message's frames; None at the end of the connection."""
        while not self._messages:
            size = self._socket.recv_into(self._cutter.buffer())
            if not size:
                return None
            self._messages += self._cutter.filled(size)
        return self._messages.pop(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


@pytest.mark.long
def test_port_answers_only_who_proves_the_cluster_key():
    keys = ClusterKeys.make()

    async def answer_with(address, tls):
        engine = Engine(ONE_MEMBER, FACTORIES, "node", tls)
        try:
            for _ in range(20):
                engine.revisions.set_replicas("a", {"r": address})
                with contextlib.suppress(AssertionError):
                    await until(lambda: engine.ready()["a"] == 1, timeout_s=0.05)
                    return await engine.infer(row(3))
            return None
        finally:
            engine.close()

    with member_on_tcp(keys) as address:
        for refused in (ClusterKeys.make().for_client(), without_certificate()):
            assert asyncio.run(answer_with(address, refused)) is None
        assert_right(asyncio.run(answer_with(address, keys.for_client())), row(3))


def without_certificate():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


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


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_garbage_never_ends_a_member(tmp_path):
    with member_on_socket_file(tmp_path) as path, Speaker.to(path) as speaker:

        @settings(max_examples=200, suppress_health_check=list(HealthCheck))
        @given(st.lists(MESSAGES, min_size=1, max_size=5))
        def send(messages):
            for message in messages:
                speaker.send(message)
            speaker.send(pack(Kind.HELLO))
            while unpack(speaker.receive()).kind != Kind.WELCOME:
                pass

        send()
        assert_answers(speaker)


def assert_answers(speaker):
    speaker.send(pack(Kind.CALL, 5, 10.0, [row(9)["row"]]))
    reply = unpack(speaker.receive())
    assert (reply.kind, reply.call_id) == (Kind.ANSWER, 5)
    assert reply.tensors[1].tolist() == [RowState.OK]


def test_stream_of_garbage_costs_its_own_connection_only(tmp_path):
    with member_on_socket_file(tmp_path) as path, Speaker.to(path) as good:

        @settings(max_examples=50)
        @given(st.binary(min_size=8, max_size=200).filter(lambda data: data[:4] != b"QST1"))
        def send(data):
            with Speaker.to(path) as bad:
                bad.send_bytes(data)
                with contextlib.suppress(ConnectionResetError):
                    assert bad.receive() is None

        send()
        assert_answers(good)


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


def test_a_member_answers_a_call_of_a_later_kind_in_words_and_goes_on(tmp_path):
    with member_on_socket_file(tmp_path) as path, Speaker.to(path) as speaker:
        frame = bytearray(pack(Kind.CANCEL, 9)[0])
        frame[2] = 9
        speaker.send([bytes(frame)])
        said = unpack(speaker.receive())
        assert (said.kind, said.call_id) == (Kind.FAILURE, 9)
        assert "has no message of kind 9; upgrade Quorate on this node" in said.text
        assert_answers(speaker)


def test_a_member_welcomes_the_first_version_and_refuses_in_words_one_that_takes_only_later_ones(tmp_path):
    with member_on_socket_file(tmp_path) as path, Speaker.to(path) as speaker:
        speaker.send(pack(Kind.HELLO, VERSION + 1, VERSION + 2))
        said = unpack(speaker.receive())
        assert (said.kind, said.call_id) == (Kind.FAILURE, 0)
        assert "upgrade Quorate where this one runs" in said.text
        speaker.send(pack(Kind.HELLO))
        welcome = unpack(speaker.receive())
        assert (welcome.kind, welcome.number, welcome.call_id) == (Kind.WELCOME, VERSION, OLDEST)


@pytest.mark.parametrize(
    ("reply", "version"),
    [
        (pack(Kind.WELCOME), 1),
        (pack(Kind.WELCOME, OLDEST, VERSION + 3), VERSION),
        (pack(Kind.WELCOME, VERSION + 1, VERSION + 3), 0),
        (pack_failure(0, "upgrade"), 0),
    ],
    ids=["the first", "a later", "later ones only", "refused"],
)
def test_a_replica_is_asked_in_the_version_that_both_speak_or_not_at_all(tmp_path, caplog, reply, version):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{tmp_path}/member")
    listening.listen()

    def answer():
        connected, _ = listening.accept()
        with Speaker(connected) as speaker:
            speaker.receive()
            speaker.send(reply)
            speaker.send(pack(Kind.LEAVING))
            speaker.receive()

    async def greet():
        peer = ConnectedPeer(Address("r", "here", f"{tmp_path}/member"), "here", None, lambda peer: None)
        await until(lambda: peer.leaving)
        assert (peer.version, peer.ready) == (version, version > 0)
        peer.close()

    with listening:
        speaking = threading.Thread(target=answer)
        speaking.start()
        asyncio.run(greet())
        speaking.join()
    assert ("is not asked: " in caplog.text) == (version == 0)


def test_what_a_later_replica_says_of_itself_besides_is_left_out():
    said = {"replica_id": "r", "node_id": "n", "host": "h", "port": 1, "speed": "of light"}
    assert Address.announced(said) == Address("r", "n", host="h", port=1)


@pytest.mark.long
def test_mad_member_costs_only_itself(tmp_path):
    """Every answer it makes up is either refused, or a well-formed answer that it is entitled to give."""
    spec = ensemble(("a", "b"))

    def mad(listening, reply):
        connected, _ = listening.accept()
        with listening, Speaker(connected) as speaker:
            while (frames := speaker.receive()) is not None:
                message = unpack(frames)
                if message.kind == Kind.HELLO:
                    speaker.send(pack(Kind.WELCOME))
                elif message.kind == Kind.CALL_PROBABILITIES:
                    raw = reply if reply and isinstance(reply[0], bytes) else None
                    speaker.send(raw or pack(Kind.ANSWER, message.call_id, 0.0, reply))

    async def ask(paths):
        engine = Engine(spec, FACTORIES, "node")
        try:
            for name, path in paths.items():
                engine.revisions.set_replicas(name, {"r": Address("r", "node", str(path))})
            await until(lambda: all(engine.ready().values()))
            answer = await engine.infer(row(4))
            assert "a" in answer.members_used
            assert np.isfinite(answer.values).all()
            if "b" in answer.members_missing:
                assert_right(answer, row(4))
        finally:
            engine.close()

    with member_on_socket_file(tmp_path) as path:

        @settings(max_examples=60, suppress_health_check=list(HealthCheck))
        @given(st.one_of(answers(), st.lists(st.binary(max_size=40), min_size=1, max_size=3)))
        def ask_beside(reply):
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(f"{tmp_path}/mad{secrets.token_hex(4)}")
            listening.listen()
            speaker = threading.Thread(target=mad, args=(listening, reply))
            speaker.start()
            asyncio.run(ask({"a": path, "b": listening.getsockname()}))
            speaker.join()

        ask_beside()


@pytest.mark.long
def test_replica_that_reads_nothing_for_a_while_is_neither_cut_nor_fed_and_goes_on_with_what_is_still_wanted():
    async def scenario():
        async with serving(ONE_MEMBER) as (_, fleet):
            [replica] = fleet.replicas["a"]
            lost: list[Peer] = []
            peer = ConnectedPeer(replica.address, "node", None, lost.append)
            await until(lambda: peer.ready)
            replica.stop()
            payload = Payload([np.zeros((100_000, 3), np.int64)])
            replies: list[Any] = []
            calls = [peer.call(Kind.CALL, payload, 1e12, replies.append) for _ in range(200)]
            await asyncio.sleep(0.1)
            assert peer.outstanding_bytes == 200 * payload.nbytes > 3 * MAX_UNREAD_BYTES
            assert peer._connection.unsent_bytes <= SEND_AHEAD_BYTES + payload.nbytes + 64
            for call_id in calls[:-2]:
                peer.drop(call_id)
            assert peer.outstanding_bytes == 2 * payload.nbytes
            replica.resume()
            await until(lambda: len(replies) == 2)
            assert [reply.call_id for reply in replies] == calls[-2:]
            assert (lost, peer.outstanding_rows, peer.outstanding_bytes) == ([], 0, 0)
            peer.close()

    asyncio.run(scenario())


def test_calls_that_wait_to_be_sent_end_when_the_replica_is_lost():
    async def scenario():
        async with serving(ONE_MEMBER) as (_, fleet):
            [replica] = fleet.replicas["a"]
            peer = ConnectedPeer(replica.address, "node", None, lambda peer: None)
            await until(lambda: peer.ready)
            replica.stop()
            payload = Payload([np.zeros((100_000, 3), np.int64)])
            replies: list[Any] = []
            for _ in range(10):
                peer.call(Kind.CALL, payload, 1e12, replies.append)
            replica.kill()
            await until(lambda: peer.closed)
            assert replies == [None] * 10
            assert (peer.outstanding_rows, peer.outstanding_bytes) == (0, 0)

    asyncio.run(scenario())


def test_an_answer_that_cannot_be_used_ends_neither_the_connection_nor_other_calls(caplog):
    def fail(message):
        raise ZeroDivisionError

    async def scenario():
        async with serving(ONE_MEMBER) as (_, fleet):
            [replica] = fleet.replicas["a"]
            peer = ConnectedPeer(replica.address, "node", None, lambda peer: None)
            await until(lambda: peer.ready)
            replies: list[Any] = []
            for _ in range(2):
                for on_reply in (fail, replies.append):
                    peer.call(Kind.CALL, Payload([np.zeros((1, 3), np.int64)]), 1e12, on_reply)
                await until(lambda: not peer.outstanding_rows)
            assert [reply.kind for reply in replies] == [Kind.ANSWER] * 2
            peer.call(Kind.CALL, Payload([np.zeros((1, 3), np.int64)]), 1e12, fail)
            peer.call(Kind.CALL, Payload([np.zeros((1, 3), np.int64)]), 1e12, replies.append)
            peer.close()
            assert replies[-1] is None

    asyncio.run(scenario())
    assert caplog.text.count("a member's answer could not be used") == 3
