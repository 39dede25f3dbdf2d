"""Memory of fusion and member replicas stays flat however many requests they answer; a leak is noticed."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import psutil
import pytest

from tests.deployments.support.member_processes import ensemble, row, serving

pytestmark = pytest.mark.long

REQUESTS = 12_800
GROWTH_BYTES = 2 << 20
CALLS = 6_400
MEMBER_GROWTH_BYTES = 1 << 20


def in_a_fresh_process(measure, *arguments):
    """What tests before this one have freed would take up the growth that is looked for."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def growth(requests, keep=False):
    """Bytes this process grew by over ``requests`` requests, after 6,400 to warm up."""
    kept = []

    async def scenario():
        async with serving(ensemble()) as (engine, _):
            numbers = iter(range(1, 100 + requests + 6_400))

            async def client(count):
                for _ in range(count):
                    answer = await engine.infer(row(next(numbers)))
                    if keep:
                        kept.append(answer)

            async def clients(count):
                await asyncio.gather(*[client(count // 64) for _ in range(64)])

            await clients(6_400)
            before = psutil.Process().memory_info().rss
            await clients(requests)
            return psutil.Process().memory_info().rss - before

    return asyncio.run(scenario())


def growths():
    """Without and with answers that are kept."""
    return growth(REQUESTS), growth(REQUESTS, keep=True)


def test_memory_stays_flat_and_the_check_catches_an_answer_that_is_kept():
    flat, kept = in_a_fresh_process(growths)
    assert flat < GROWTH_BYTES < kept


@pytest.mark.slow
def test_memory_stays_flat_over_a_million_requests():
    assert in_a_fresh_process(growth, 1_000_000) < 20 << 20


def member_growth(requests, keep=False):
    """Bytes that a member's process grew by over ``requests`` calls of one row, after 3,200 to warm up."""
    spec = ensemble(("a",), keep=keep, serving={"max_batch_size": 1}, max_batch_size=1)

    async def scenario():
        async with serving(spec) as (engine, fleet):
            process = psutil.Process(fleet.replicas["a"][0].pid)

            async def clients(count):
                async def client(number):
                    for _ in range(count // 32):
                        await engine.infer(row(number))

                await asyncio.gather(*[client(number) for number in range(1, 33)])

            await clients(3_200)
            before = process.memory_info().rss
            await clients(requests)
            return process.memory_info().rss - before

    return asyncio.run(scenario())


def test_a_members_memory_stays_flat():
    assert member_growth(CALLS) < MEMBER_GROWTH_BYTES


def test_the_check_catches_a_member_that_keeps_its_rows():
    assert member_growth(CALLS, keep=True) > MEMBER_GROWTH_BYTES
