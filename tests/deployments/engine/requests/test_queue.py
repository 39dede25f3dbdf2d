"""The order in which requests wait, and who is shed when too many do."""

from typing import Any

import numpy as np
import pytest

from quorate.deployments.engine.requests.queue import RequestQueue
from quorate.deployments.engine.requests.request import Request
from quorate.deployments.errors import OverloadedError


def request(rows=1, priority=2, deadline=100.0, size=3):
    return Request({"x": np.zeros((rows, size))}, LIVE, deadline, priority=priority)


LIVE: Any = object()  # the revision that answers them


def queue(*requests, max_rows=100, max_bytes=1 << 20):
    waiting = RequestQueue(max_rows, max_bytes)
    for arrived, each in enumerate(requests):
        assert waiting.add(each, float(arrived)) == []
    return waiting


def take(waiting, max_rows=100):
    return waiting.take(max_rows, Request.joins)


def test_requests_wait_by_priority_and_then_by_age():
    low, first, high, second = request(priority=3), request(), request(priority=1), request()
    assert list(queue(low, first, high, second)) == [high, first, second, low]


def test_those_that_fit_travel_together_and_the_oldest_says_when_it_came():
    a, b, c = request(rows=2), request(rows=3), request(rows=1)
    waiting = queue(a, b, c)
    assert take(waiting, max_rows=5) == ([a, b], 0.0)
    assert waiting.rows == 1
    assert take(waiting) == ([c], 2.0)
    assert not waiting
    assert waiting.rows == 0


def test_a_request_that_does_not_fit_holds_back_those_behind_it():
    a, large, small = request(rows=2), request(rows=9), request(rows=1)
    assert take(queue(a, large, small), max_rows=5)[0] == [a]


def test_a_request_larger_than_a_batch_travels_alone():
    large = request(rows=9)
    assert take(queue(large, request()), max_rows=5)[0] == [large]


def test_rows_of_another_shape_do_not_join():
    a, other = request(), request(size=4)
    assert take(queue(a, other))[0] == [a]


def test_a_full_queue_refuses_a_request_of_the_same_priority():
    waiting = queue(request(rows=60), request(rows=40))
    with pytest.raises(OverloadedError, match="limit of 100"):
        waiting.add(request(), 2.0)
    assert waiting.rows == 100


def test_a_full_queue_sheds_the_newest_of_the_lowest_priority_for_a_higher_one():
    old_low, new_low, normal = request(rows=30, priority=3), request(rows=30, priority=3), request(rows=40)
    waiting = queue(old_low, new_low, normal)
    high = request(rows=20, priority=1)
    assert waiting.add(high, 3.0) == [new_low]
    assert list(waiting) == [high, normal, old_low]
    assert waiting.rows == 90


def test_nobody_is_shed_where_all_of_lower_priority_together_would_not_do():
    waiting = queue(request(rows=90, priority=1), request(rows=10, priority=3))
    with pytest.raises(OverloadedError):
        waiting.add(request(rows=11), 2.0)
    assert waiting.rows == 100


def test_a_queue_full_of_bytes_refuses_although_there_is_room_for_rows():
    waiting = queue(request(rows=2), max_bytes=100)  # 24 bytes a row
    waiting.add(request(rows=2), 1.0)
    with pytest.raises(OverloadedError, match="the queue, in bytes, already holds its limit of 100"):
        waiting.add(request(), 2.0)
    assert (waiting.rows, waiting.nbytes) == (4, 96)
    take(waiting, max_rows=2)
    assert waiting.add(request(), 3.0) == []


def test_a_queue_full_of_bytes_sheds_for_a_higher_priority():
    low = request(rows=2, priority=3)
    waiting = queue(request(), low, max_bytes=100)
    assert waiting.add(request(rows=2, priority=1), 2.0) == [low]
    assert waiting.nbytes == 72


def test_strings_count_by_their_length():
    texts = np.array([[b"a" * 1000], [b"b" * 500]], dtype=object)
    found = Request({"text": texts}, LIVE, 1.0)
    assert found.nbytes == 1500 + texts.nbytes


def test_requests_that_have_left_are_forgotten_long_before_their_deadline():
    waiting = queue(request(deadline=1e9))
    for number in range(10_000):
        waiting.add(request(deadline=2e9 + number), 0.0)
        waiting.take(1, Request.joins)
    assert len(waiting._deadlines) < 200


def test_the_next_deadline_is_that_of_those_who_wait():
    a, b, c = request(deadline=30.0), request(deadline=10.0, priority=3), request(deadline=20.0, priority=1)
    waiting = queue(a, b, c)
    for deadline, gone in [(10.0, b), (20.0, c), (30.0, a)]:
        assert waiting.next_deadline() == deadline
        waiting.remove(gone)
    assert waiting.next_deadline() is None


def test_a_request_larger_than_the_queue_waits_where_nobody_else_does():
    large = request(rows=200)
    assert list(queue(large)) == [large]


def test_a_request_is_removed_once():
    mine = request(rows=3)
    waiting = queue(mine, request(rows=2))
    assert waiting.remove(mine)
    assert not waiting.remove(mine)
    assert waiting.rows == 2


def test_requests_whose_deadline_has_passed_are_taken_out():
    early, late = request(rows=2, deadline=10.0), request(deadline=20.0)
    waiting = queue(early, late)
    assert waiting.next_deadline() == 10.0
    assert waiting.take_expired(10.0) == [early]
    assert (waiting.rows, waiting.next_deadline()) == (1, 20.0)


def test_an_emptied_queue_holds_nothing():
    a, b = request(), request(priority=1)
    waiting = queue(a, b)
    assert waiting.take_all() == [b, a]
    assert not waiting
    assert (waiting.rows, waiting.next_deadline()) == (0, None)
