"""Where requests go, and what clients do with each way to get no answer; no sockets."""

from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from quorate import Client
from quorate.deployments import errors
from quorate.deployments.client import failover, inference
from quorate.deployments.client.failover import DoorList, Failure, Tries, door_urls

A, B, C = "http://a:1", "http://b:1", "http://c:1"
ROW = np.zeros((1, 2), np.float32)
REFUSED = httpx.ConnectError("refused")
LOST = httpx.ReadError("reset")
METADATA = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}


def chosen(doors, count, now=0.0):
    return [doors.choose((), now).url for _ in range(count)]


def rest(doors, url, now=0.0, **options):
    door = next(door for door in (doors.choose((), now) for _ in range(9)) if door.url == url)
    doors.failed(door, now, **options)
    return door


def test_requests_take_turns_at_the_doors_that_were_given():
    assert chosen(DoorList([A, B, C], turn=1), 4) == [B, C, A, B]


def test_clients_start_their_turns_at_different_doors():
    assert {chosen(DoorList([A, B]), 1)[0] for _ in range(64)} == {A, B}


def test_a_door_that_failed_rests_and_then_one_request_looks_whether_it_is_back():
    doors = DoorList([A, B], turn=0)
    door = rest(doors, A)
    assert chosen(doors, 3, failover.REST_S - 0.1) == [B, B, B]
    assert sorted(chosen(doors, 4, failover.REST_S)) == [A, B, B, B]
    doors.worked(door)
    assert sorted(chosen(doors, 4, failover.REST_S)) == [A, A, B, B]


def test_each_further_failure_doubles_the_rest_up_to_a_limit():
    doors = DoorList([A], turn=0)
    rests = []
    for _ in range(5):
        door = rest(doors, A)
        rests.append(door.rests_until)
    assert rests == [1.0, 2.0, 4.0, failover.MAX_REST_S, failover.MAX_REST_S]


def test_a_door_rests_as_long_as_it_asks_for_within_the_limit():
    doors = DoorList([A], turn=0)
    assert rest(doors, A, rest_s=3.0).rests_until == 3.0
    assert rest(doors, A, rest_s=60.0).rests_until == failover.MAX_REST_S


def test_where_all_doors_rest_the_one_that_is_due_first_is_asked():
    doors = DoorList([A, B], turn=0)
    rest(doors, A, rest_s=3.0)
    rest(doors, B, rest_s=2.0)
    assert chosen(doors, 2, 1.0) == [B, B]
    assert doors.choose((), 1.0, resting=False) is None


def test_doors_that_a_server_named_are_asked_when_no_given_one_is_well():
    doors = DoorList([A], turn=0)
    doors.learn(["a:1", "b:1", "c:1", "b:1"])
    assert doors.urls == (A, B, C)
    assert chosen(doors, 2) == [A, A]
    rest(doors, A)
    assert set(chosen(doors, 2)) == {B, C}
    assert chosen(doors, 1, failover.REST_S) == [A]


def test_a_named_door_keeps_its_rest_when_it_is_named_again_and_goes_when_it_is_not():
    doors = DoorList([A], turn=0)
    doors.learn(["b:1", "c:1"])
    rest(doors, A, rest_s=5.0)
    rest(doors, B, rest_s=5.0)
    doors.learn(["b:1", "c:1"])
    assert chosen(doors, 2) == [C, C]
    doors.learn(["b:1"])
    assert doors.urls == (A, B)


def test_doors_are_looked_for_once_in_a_while_by_one_of_those_who_share_the_list():
    doors = DoorList([A])
    assert [doors.refresh_due(now) for now in (5.0, 5.0, 6.0, 5.0 + failover.REFRESH_S)] == [True, False, False, True]


def after(*failures, repeatable=True, urls=(A, B, C), deadline=9.0, now=0.0):
    """The doors that a request tries when each ends in the failure of its turn."""
    tries, seen = Tries(DoorList(urls, turn=0), 10.0, deadline, repeatable), []
    for failure in (*failures, None):
        door = tries.next(now)
        if door is None:
            break
        seen.append(door.url)
        if failure is not None:
            tries.failed(failure, failure.name, now)
    return seen


def test_doors_that_are_not_there_are_tried_once_each():
    assert after(*[Failure.UNREACHED] * 4) == [A, B, C]


def test_a_request_whose_connection_is_lost_is_sent_once_more():
    assert after(Failure.LOST, Failure.LOST) == [A, B]
    assert after(Failure.LOST, Failure.LOST, urls=(A,)) == [A, A]


def test_a_request_that_may_have_been_worked_on_goes_on_only_if_it_may_be_repeated():
    assert after(Failure.LOST, repeatable=False) == [A]
    assert after(Failure.REFUSED, repeatable=False) == [A]
    assert after(Failure.UNREACHED, Failure.LOST, repeatable=False) == [A, B]


def test_a_late_request_is_not_sent_again():
    assert after(Failure.LATE) == [A]


def test_after_the_deadline_no_other_door_is_tried():
    assert after(Failure.UNREACHED, deadline=1.0, now=1.0) == [A]


def test_a_busy_ensemble_is_asked_at_every_door_once_and_then_at_one_door_a_request():
    doors = DoorList([A, B, C], turn=0)
    counts = []
    for _ in range(3):
        tries, count = Tries(doors, 10.0, 10.0), 0
        while tries.next(0.0) is not None:
            tries.failed(Failure.REFUSED, "503", 0.0)
            count += 1
        counts.append(count)
    assert counts == [3, 1, 1]


def test_a_connection_is_waited_for_less_long_while_other_doors_are_left():
    tries = Tries(DoorList([A, B], turn=0), 30.0, 30.0)
    tries.next(0.0)
    assert tries.connect_timeout_s(0.0) == failover.CONNECT_TIMEOUT_S
    tries.failed(Failure.UNREACHED, "no", 2.0)
    tries.next(2.0)
    assert tries.connect_timeout_s(2.0) == 28.0
    short = Tries(DoorList([A, B], turn=0), 30.0, 1.0)
    short.next(0.0)
    assert short.connect_timeout_s(0.0) == 0.5


def test_the_error_says_what_each_door_did():
    tries = Tries(DoorList([A, B], turn=0), 10.0, 10.0)
    for words in ("refused", "timed out"):
        tries.next(0.0)
        tries.failed(Failure.UNREACHED, words, 0.0)
    assert str(tries.error()) == f"no answer from {A} (refused), {B} (timed out); is the ensemble deployed?"


def test_urls_come_one_by_one_in_a_sequence_or_with_commas():
    assert door_urls(A) == (A,)
    assert door_urls(f"{A}/, {B}") == door_urls([A, B, A]) == (A, B)
    wrongs: list[str | list[str]] = ["", "a:1", [], f"{A},", "ftp://a"]
    for wrong in wrongs:
        with pytest.raises(errors.RequestError, match="give http://HOST:PORT"):
            door_urls(wrong)


def carried(client, call, outcomes):
    """What a call returns when its attempts end so, and the attempts, without anybody carrying them."""
    attempts: list[Any] = []
    outcome, outcomes = None, iter(outcomes)
    while True:
        try:
            step = call.send(outcome)
        except StopIteration as done:
            return done.value, attempts
        attempts.append(step)
        outcome = None if isinstance(step, inference.Pause) else next(outcomes)


@pytest.fixture
def client():
    with Client([A, B], model="m") as client:
        client._doors = DoorList([A, B], turn=0)
        yield client


def refusal(**headers):
    return httpx.Response(503, json={"error": "the queue is full"}, headers=headers)


def answer():
    head = orjson.dumps({"outputs": []})
    return httpx.Response(200, content=head, headers={"inference-header-content-length": str(len(head))})


def sent_deadline(attempt):
    head = attempt.request.body[: int(attempt.request.headers["inference-header-content-length"])]
    return orjson.loads(head)["parameters"].get("deadline_ms")


def test_what_is_sent_again_has_only_the_time_that_is_left(client, monkeypatch):
    clock = iter([0.0, 0.0, 0.04, 0.04])
    monkeypatch.setattr(inference, "time", SimpleNamespace(monotonic=lambda: next(clock, 0.04)))
    call = client._infer("m", {"x": ROW}, {"deadline_ms": 100})
    _, attempts = carried(client, call, [LOST, answer()])
    assert [attempt.url for attempt in attempts] == [A, B]
    assert [sent_deadline(attempt) for attempt in attempts] == [100, pytest.approx(60)]


def test_triton_s_time_out_is_a_deadline_too(client, monkeypatch):
    clock = iter([0.0, 0.0])
    monkeypatch.setattr(inference, "time", SimpleNamespace(monotonic=lambda: next(clock, 0.2)))
    with pytest.raises(errors.UnavailableError, match=r"http://a:1 \(reset\)"):
        carried(client, client._infer("m", {"x": ROW}, {"timeout": 100_000}), [LOST])


def test_a_publication_is_sent_again_only_if_nothing_had_been_sent(client):
    _, attempts = carried(client, client._publish({}, ""), [REFUSED, httpx.Response(200)])
    assert [attempt.url for attempt in attempts] == [A, B]
    with pytest.raises(errors.UnavailableError, match="reset"):
        carried(client, client._publish({}, ""), [LOST])
    with pytest.raises(errors.RemoteUnavailableError, match="503: the queue is full"):
        carried(client, client._publish({}, ""), [refusal()])


def test_a_refusal_by_all_doors_is_the_last_ones_with_what_the_others_did(client):
    with pytest.raises(errors.RemoteOverloadedError) as error:
        carried(client, client._metadata(""), [REFUSED, refusal(**{"retry-after": "2"})])
    assert error.value.retry_after_s == 2
    for part in (
        "the server answered 503: the queue is full; asked",
        f"{A} (refused)",
        f"{B} (503: the queue is full)",
    ):
        assert part in str(error.value)


def test_a_pause_that_would_end_too_late_is_not_made(client):
    client._retries, client._timeout_s = 5, 3.0
    with pytest.raises(errors.RemoteOverloadedError):
        carried(client, client._metadata(""), [refusal(**{"retry-after": "4"})] * 2)


def test_after_an_answer_the_other_doors_are_looked_for(client):
    named = httpx.Response(200, json={"name": "quorate", "doors": {"http": ["b:1", "c:1"], "grpc": []}})
    call = client._and_find_doors(client._metadata(""))
    found, attempts = carried(client, call, [httpx.Response(200, json=METADATA), named])
    assert found == METADATA
    assert [(attempt.url, attempt.request.path) for attempt in attempts] == [(A, "/v2/models/m"), (A, "/v2")]
    assert client._doors.urls == (A, B, C)


@pytest.mark.parametrize(
    "said",
    [
        httpx.Response(200, json={"name": "triton"}),
        httpx.Response(200, json=[]),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json={"doors": 3}),
        httpx.Response(401, json={"error": "no"}),
        LOST,
    ],
)
def test_a_server_that_names_no_doors_takes_nothing_away(client, said):
    client._doors.learn(["c:1"])
    call = client._and_find_doors(client._metadata(""))
    found, _ = carried(client, call, [httpx.Response(200, json=METADATA), said])
    assert (found, client._doors.urls) == (METADATA, (A, B, C))


def test_all_stages_of_a_try_share_what_is_left(monkeypatch):
    now = 0.0
    monkeypatch.setattr(inference, "time", SimpleNamespace(monotonic=lambda: now))
    timeouts = inference.TimeLeft(10.0, 2.0)
    assert (timeouts.get("connect"), timeouts.get("read"), timeouts.get("write")) == (2.0, 10.0, 10.0)
    now = 9.0
    assert (timeouts.get("connect"), timeouts.get("read")) == (1.0, 1.0)
    now = 11.0
    assert timeouts.get("read") == 0.001
