"""Doors that go, hang up or refuse while clients ask, and come back: real sockets, with and without an event loop."""

import asyncio
import socket
import threading
import time

import httpx
import numpy as np
import pyarrow as pa
import pytest

from quorate import AsyncClient, Client
from quorate.deployments import errors
from quorate.deployments.client import failover
from quorate.deployments.client.failover import DoorList
from quorate.deployments.server.service import DoorAddresses

ROWS = np.array([[0.5, 1.0], [2.0, -1.0]], np.float32)
TABLE = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(np.repeat(ROWS, 4000, axis=0))})
both = pytest.mark.parametrize("kind", [Client, AsyncClient])


class Asking:
    """A client of either kind as the plain one, so that a test says once what both do."""

    def __init__(self, kind, urls, **options):
        self._loop = asyncio.new_event_loop() if kind is AsyncClient else None
        self.client = kind(urls, model="pair", **options)
        self.client._doors = DoorList(self.client._urls, turn=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._done(self.client.close())
        if self._loop is not None:
            self._loop.close()

    def infer(self, **named):
        return self._done(self.client.infer(**named or {"x": ROWS}))

    def publish(self, fusion):
        return self._done(self.client.publish(fusion))

    def stream(self, data):
        answers = self.client.infer_arrow(data)
        if self._loop is None:
            return list(answers)

        async def collect():
            return [answer async for answer in answers]

        return self._done(collect())

    def _done(self, call):
        return call if self._loop is None else self._loop.run_until_complete(call)


class Rude:
    """A door that takes every connection, reads what comes, and then does what ``then`` does with the connection."""

    def __init__(self, then):
        self._then, self.requests = then, []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            line, _ = self._socket.accept()
            with line:
                data = line.recv(1 << 20)
                if not data:
                    return
                self.requests.append(data)
                self._then(line)

    def close(self):
        with socket.create_connection(self._socket.getsockname()):
            pass
        self._thread.join()
        self._socket.close()


def hang_up(_):
    """End the connection without a word."""


def refuse(line):
    body = b'{"error": "too few members"}'
    line.sendall(b"HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    line.shutdown(socket.SHUT_WR)
    while line.recv(1 << 20):
        """Until the client has read it."""


@pytest.fixture
def rude():
    opened = []

    def run(then):
        opened.append(Rude(then))
        return opened[-1]

    yield run
    for door in opened:
        door.close()


@pytest.fixture(scope="module")
def second(open_doors, pair_spec):
    return open_doors(pair_spec)


@pytest.fixture
def nowhere():
    """A URL that nobody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def short_rests(monkeypatch):
    monkeypatch.setattr(failover, "REST_S", 0.05)
    monkeypatch.setattr(failover, "MAX_REST_S", 0.2)


def answered(doors):
    """How many requests a door has answered since it opened."""
    (found,) = httpx.get(f"{doors.http}/v2/models/pair/stats", timeout=30).json()["model_stats"]
    return found["inference_stats"]["success"]["count"]


@both
def test_no_call_is_lost_while_a_door_is_away_and_it_is_asked_again_when_it_is_back(pair, second, kind, short_rests):
    with Asking(kind, [pair.http, second.http]) as asking:
        expected = asking.infer().outputs["fused"]
        asking.infer()
        second.server.stop()
        try:
            for _ in range(6):
                np.testing.assert_array_equal(asking.infer().outputs["fused"], expected)
        finally:
            second.restart()
        ends = time.monotonic() + 30
        while not answered(second):
            assert time.monotonic() < ends
            asking.infer()


@both
def test_a_client_that_was_given_one_door_goes_to_those_that_it_named(pair, second, kind):
    second.server.doors = DoorAddresses((second.http[7:], pair.http[7:]))
    with Asking(kind, second.http) as asking:
        asking.infer()
        second.server.stop()
        try:
            assert asking.infer().parameters["members_used"] == "a,b"
        finally:
            second.restart()


@both
def test_a_call_whose_connection_is_lost_is_made_once_more(pair, kind, rude):
    door = rude(hang_up)
    with Asking(kind, [door.url, pair.http]) as asking:
        assert asking.infer().parameters["members_used"] == "a,b"
    assert len(door.requests) == 1
    with Asking(kind, door.url) as asking, pytest.raises(errors.UnavailableError, match="is the ensemble deployed"):
        asking.infer()
    assert len(door.requests) == 3


@both
def test_a_publication_is_not_made_twice_but_finds_a_door_that_is_there(pair, kind, rude, nowhere):
    door = rude(hang_up)
    with Asking(kind, [door.url, pair.http]) as asking, pytest.raises(errors.UnavailableError, match=door.url):
        asking.publish({"deadline_s": 1.0})
    assert len(door.requests) == 1
    with (
        Asking(kind, [nowhere, pair.http]) as asking,
        pytest.raises(errors.UnavailableError, match="no revision can be published"),
    ):
        asking.publish({"deadline_s": 1.0})


@both
def test_a_door_that_refuses_is_passed_over(pair, kind, rude):
    door = rude(refuse)
    with Asking(kind, [door.url, pair.http]) as asking:
        for _ in range(3):
            assert asking.infer().parameters["members_used"] == "a,b"
    assert len(door.requests) == 1


@both
def test_an_error_says_which_doors_were_tried_and_what_each_did(kind, rude, nowhere):
    refusing, lossy = rude(refuse), rude(hang_up)
    with Asking(kind, [nowhere, lossy.url, refusing.url]) as asking:
        with pytest.raises(errors.RemoteUnavailableError, match="503: too few members; asked ") as error:
            asking.infer()
        for url in (nowhere, lossy.url, refusing.url):
            assert f"{url} (" in str(error.value)


@both
def test_a_door_that_never_answers_costs_no_more_than_the_time_out(pair, kind, rude):
    let_go = threading.Event()
    silent = rude(lambda _: let_go.wait())
    try:
        with Asking(kind, [silent.url, pair.http], timeout_s=0.5) as asking:
            started = time.monotonic()
            with pytest.raises(errors.UnavailableError, match=silent.url):
                asking.infer()
            assert 0.4 < time.monotonic() - started < 5
            asking.client._timeout_s = 30.0
            assert asking.infer().parameters["members_used"] == "a,b"
            assert asking.infer().parameters["members_used"] == "a,b"
    finally:
        let_go.set()
    assert len(silent.requests) == 1


@both
@pytest.mark.parametrize("then", [hang_up, refuse])
def test_a_stream_goes_to_another_door_before_its_first_answer(pair, kind, then, rude, nowhere):
    door = rude(then)
    once = (batch for batch in TABLE.to_batches(max_chunksize=1000))
    with Asking(kind, [nowhere, door.url, pair.http]) as asking, Asking(Client, pair.http) as plain:
        answers = asking.stream(once)
        whole = plain.infer(x=TABLE.column("x").combine_chunks().to_numpy_ndarray())
    fused = np.concatenate([answer.batch.column("fused").flatten().to_numpy() for answer in answers])
    np.testing.assert_array_equal(fused.reshape(-1, 3), whole.outputs["fused"])
    assert len(door.requests) == 1


def test_a_stream_that_has_sent_more_than_is_kept_is_not_sent_again(pair, rude, monkeypatch):
    monkeypatch.setattr("quorate.deployments.client.arrow.KEPT_BYTES", 1000)
    door = rude(hang_up)
    with Asking(Client, [door.url, pair.http]) as asking, pytest.raises(errors.UnavailableError, match=door.url):
        asking.stream(TABLE)


def test_a_stream_is_not_sent_again_once_an_answer_has_come(pair, rude):
    def begin_and_hang_up(line):
        line.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")

    door = rude(begin_and_hang_up)
    with Asking(Client, [door.url, pair.http]) as asking, pytest.raises(errors.UnavailableError, match="broke off"):
        asking.stream(TABLE)


def test_what_the_callers_own_rows_raise_is_no_fault_of_a_door(pair):
    def rows():
        yield from TABLE.to_batches(max_chunksize=1000)[:2]
        raise OSError("the disk is gone")

    with Asking(Client, [pair.http]) as asking, pytest.raises(OSError, match="the disk is gone"):
        asking.stream(rows())
