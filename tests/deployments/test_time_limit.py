"""What lasts too long is cancelled, and so is whoever is told to stop while he waits."""

import asyncio

import pytest

from quorate.deployments.time_limit import within


def test_what_is_done_in_time_is_returned_or_raised():
    async def fail():
        raise ValueError("no")

    assert asyncio.run(within(1, asyncio.sleep(0, "done"))) == "done"
    with pytest.raises(ValueError, match="no"):
        asyncio.run(within(1, fail()))


def test_what_lasts_too_long_is_cancelled():
    ended = []

    async def last():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(within(0.01, last()))
    assert ended == [True]


@pytest.mark.parametrize("done", [False, True], ids=["before the work ends", "as the work ends"])
def test_a_cancellation_is_never_lost(done):
    async def scenario():
        work = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(within(60, work))
        await asyncio.sleep(0)
        if done:
            work.set_result(None)
        waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled(), work.cancelled()

    assert asyncio.run(scenario()) == (True, not done)
