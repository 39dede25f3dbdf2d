"""One timer for many deadlines: each is called at its time, once, and never when it has been dropped."""

import asyncio
import time

import pytest

from quorate.deployments.engine.requests.deadlines import Deadlines


def times_called(*steps, wait_for):
    """When each key was called back, in seconds from the start, after ``steps`` on the deadlines."""

    async def scenario():
        called, done, started = {}, asyncio.Event(), time.monotonic()

        def on_due(key):
            assert key not in called
            called[key] = time.monotonic() - started
            if wait_for <= called.keys():
                done.set()

        deadlines = Deadlines(on_due)
        for step in steps:
            step(deadlines, started)
        await asyncio.wait_for(done.wait(), 30)
        return called

    return asyncio.run(scenario())


def at(key, seconds):
    return lambda deadlines, started: deadlines.set(key, started + seconds)


def drop(key):
    return lambda deadlines, started: deadlines.drop(key)


def test_each_is_called_not_before_its_time_and_in_their_order():
    called = times_called(at("c", 0.03), at("a", 0.01), at("b", 0.02), wait_for={"a", "b", "c"})
    assert list(called) == ["a", "b", "c"]
    assert all(called[key] >= due for key, due in {"a": 0.01, "b": 0.02, "c": 0.03}.items())


def test_one_that_was_dropped_or_put_off_is_not_called_then():
    called = times_called(at("a", 0.01), at("b", 0.01), at("c", 0.02), drop("a"), at("b", 0.05), wait_for={"b", "c"})
    assert list(called) == ["c", "b"]
    assert called["b"] >= 0.05


def test_what_one_call_raises_keeps_no_other_from_its_own():
    async def scenario():
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda loop, context: None)

        def on_due(key):
            if key == "bad":
                raise ZeroDivisionError
            called.set()

        deadlines = Deadlines(on_due)
        deadlines.set("bad", 0.0)
        deadlines.set("good", 0.0)
        await asyncio.wait_for(called.wait(), 30)

    asyncio.run(scenario())


@pytest.mark.parametrize("key", ["a", ("b", 1)])
def test_nothing_is_called_once_they_are_closed(key):
    async def scenario():
        called: list[object] = []
        deadlines = Deadlines(called.append)
        deadlines.set(key, 0.0)
        deadlines.close()
        for _ in range(3):
            await asyncio.sleep(0)
        return called

    assert asyncio.run(scenario()) == []
