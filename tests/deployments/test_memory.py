"""A fusion replica's memory stays flat however many requests it answers; a leak is noticed."""

import asyncio

import psutil
import pytest

from tests.deployments.member_processes import ensemble, row, serving

REQUESTS = 25_600
GROWTH_BYTES = 4 << 20


def growth(after_answer, requests):
    """Bytes this process grew by over ``requests`` requests, after 6,400 to warm up."""

    async def scenario():
        async with serving(ensemble()) as (engine, _):
            numbers = iter(range(1, 100 + requests + 6_400))

            async def client(count):
                for _ in range(count):
                    after_answer(await engine.infer(row(next(numbers))))

            async def clients(count):
                await asyncio.gather(*[client(count // 64) for _ in range(64)])

            await clients(6_400)
            before = psutil.Process().memory_info().rss
            await clients(requests)
            return psutil.Process().memory_info().rss - before

    return asyncio.run(scenario())


def test_memory_stays_flat():
    assert growth(lambda answer: None, REQUESTS) < GROWTH_BYTES


@pytest.mark.slow
def test_memory_stays_flat_over_a_million_requests():
    assert growth(lambda answer: None, 1_000_000) < 20 << 20


def test_the_check_catches_an_answer_that_is_kept():
    kept = []
    assert growth(kept.append, REQUESTS) > GROWTH_BYTES
