"""Under every fault at once: each answer is the fusion of exactly the members it names, at the revision it names."""

import asyncio
import itertools
import random
import signal

import numpy as np
import pytest

from quorate.deployments.errors import DeadlineError
from quorate.fusion.errors import QuorateError
from tests.deployments.support.member_processes import MEMBERS, assert_right, ensemble, row, serving, until

pytestmark = pytest.mark.long

DEADLINE_S = 2.0
HASTY_S = 0.1  # every fourth request: shorter than a replica stands still, so that answers go out without its member
# A request that has no answer by then never gets one; how late it may be is shown in virtual time (test_failure_rules).
LOST_S = 30.0
CLIENTS = 64
OTHER_WEIGHTS = {"a": 0.1, "b": 0.15, "c": 0.75}


class Chaos:
    """Does one harm after another to an ensemble of two replicas per member, and counts what it did."""

    def __init__(self, engine, fleet, specs, seed):
        self._engine, self._fleet, self._specs = engine, fleet, specs
        self._random = random.Random(seed)
        self.done = dict.fromkeys(("kill", "stop", "drain", "publish"), 0)

    async def run(self, enough):
        publications = itertools.cycle(self._specs)
        for harm in itertools.cycle(self.done):
            if enough():
                return
            if harm == "publish":
                self._engine.revisions.commit(self._engine.prepare(next(publications)))
            else:
                await getattr(self, f"_{harm}")(self._random.choice(list(self._fleet.replicas)))
            self.done[harm] += 1
            await asyncio.sleep(0.02)

    async def _kill(self, name):
        victim = self._random.choice(self._fleet.replicas[name])
        victim.signal(signal.SIGKILL)
        await self._replace(name, victim)

    async def _stop(self, name):
        victim = self._random.choice(self._fleet.replicas[name])
        # Not on the event loop: on a busy machine it takes a while until every thread stands still.
        await asyncio.get_running_loop().run_in_executor(None, victim.stop)
        await asyncio.sleep(0.3)
        victim.resume()

    async def _drain(self, name):
        victim = self._random.choice(self._fleet.replicas[name])
        victim.drain()
        await self._replace(name, victim)
        await until(victim.gone)

    async def _replace(self, name, victim):
        fresh = self._fleet.launch(name)
        await asyncio.get_running_loop().run_in_executor(None, fresh.wait)
        self._fleet.replicas[name].remove(victim)
        self._fleet.announce(self._engine)
        await until(lambda: fresh.replica_id in self._fleet.ready(self._engine, name))


async def storm(requests, seed, together=False):
    """Send ``requests`` requests, no two alike, while harm is done, and check every answer."""
    specs = [ensemble(deadline_s=DEADLINE_S), ensemble(deadline_s=DEADLINE_S, weights=OTHER_WEIGHTS)]
    weights = {spec.revision: spec.output_fusion.weights for spec in specs}
    async with serving(specs[0], dict.fromkeys(MEMBERS, 2), together) as (engine, fleet):
        chaos = Chaos(engine, fleet, specs[::-1], seed)
        numbers = itertools.count(1)
        counts = {"full": 0, "degraded": 0, "late": 0, "lost": 0, "error": 0}
        revisions = set()

        def enough():
            return sum(counts.values()) >= requests and min(chaos.done.values()) >= 3

        async def client():
            while not enough():
                number = next(numbers)
                inputs, allowed_s = row(number), DEADLINE_S if number % 4 else HASTY_S
                try:
                    answer = await asyncio.wait_for(engine.infer(inputs, allowed_s), allowed_s + LOST_S)
                except asyncio.TimeoutError:
                    counts["lost"] += 1
                except QuorateError as error:
                    counts["late" if allowed_s == HASTY_S and isinstance(error, DeadlineError) else "error"] += 1
                else:
                    assert_right(answer, inputs, weights[answer.revision])
                    revisions.add(answer.revision)
                    counts["degraded" if answer.degraded else "full"] += 1

        await asyncio.gather(chaos.run(enough), *[client() for _ in range(CLIENTS)])
        assert revisions == set(weights)
        return counts


def assert_all_were_answered(counts, requests):
    assert sum(counts.values()) >= requests
    assert counts["lost"] == 0
    assert counts["error"] == 0  # at most one member is harmed at a time and the quorum is one
    assert counts["full"] > counts["degraded"] > 0


def test_ten_thousand_requests_through_kills_stops_drains_and_publications():
    assert_all_were_answered(asyncio.run(storm(10_000, seed=0)), 10_000)


def test_of_members_that_share_processes_a_kill_costs_all_and_no_answer_is_wrong():
    counts = asyncio.run(storm(5_000, seed=0, together=True))
    assert counts["lost"] == 0
    assert counts["full"] > 4_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_thousand_requests_through_kills_stops_drains_and_publications(seed):
    assert_all_were_answered(asyncio.run(storm(100_000, seed)), 100_000)


def test_the_oracle_tells_a_swapped_answer_a_wrong_member_and_a_wrong_revision():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            return await engine.infer(row(1)), await engine.infer(row(2), members=("a", "b"))

    whole, part = asyncio.run(scenario())
    assert_right(whole, row(1))
    assert_right(part, row(2))
    for answer, inputs, weights in [(whole, row(2), None), (part, row(1), None), (whole, row(1), OTHER_WEIGHTS)]:
        with pytest.raises(AssertionError):
            assert_right(answer, inputs, weights)


def test_order_of_members_and_of_arrival_changes_no_bit():
    numbers = np.arange(1, 301)

    async def ask(members, seed):
        shuffled = np.random.default_rng(seed).permutation(numbers)
        async with serving(ensemble(members)) as (engine, _):
            answers = await asyncio.gather(*[engine.infer(row(int(n))) for n in shuffled])
        return {n: answer.values.tobytes() for n, answer in zip(shuffled, answers, strict=True)}

    first, *others = [asyncio.run(ask(order, seed)) for seed, order in enumerate(["abc", "cab", "bca", "cba"])]
    for other in others:
        assert other == first
