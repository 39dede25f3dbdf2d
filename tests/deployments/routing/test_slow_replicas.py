"""What slow replicas cost: random stragglers behind a hedge, and one that is slow all the time. In virtual time."""

import asyncio
import itertools
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from quorate.deployments.routing import call, circuit_breaker, member
from quorate.deployments.routing.hedge import HEDGE_BUDGET
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.replica import Address
from quorate.deployments.routing.terms import Terms
from quorate.deployments.transport.messages import Kind
from tests.deployments.support.fake_replicas import FakeReplica, payload
from tests.deployments.support.virtual_time import run_virtually

USUAL_S = 0.01


class TimedReplica(FakeReplica):
    """Answers each call after a while: the next of ``latencies_s``."""

    def __init__(self, name, latencies_s, on_lost):
        super().__init__(name, on_lost=on_lost)
        self._latencies_s = latencies_s

    def call(self, kind, payload, expires, on_reply, context=b""):
        call_id = super().call(kind, payload, expires, on_reply)
        asyncio.get_running_loop().call_later(next(self._latencies_s), self._answer, call_id)
        return call_id

    def _answer(self, call_id):
        if call_id in self._waiting:  # it was not dropped
            self.answer(call_id=call_id)


@pytest.fixture
def ask(monkeypatch):
    """Ask a member of these replicas so many calls, so far apart: the latency of each, and how often each was asked."""

    def run(latencies_s, calls, apart_s, percentile=None, deadline_s=10.0):
        async def scenario(loop):
            for module in (call, member, circuit_breaker):
                monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=loop.time))
            made: list[TimedReplica] = []

            def connect(address, on_lost):
                name = address.replica_id
                made.append(TimedReplica(name, latencies_s[name], on_lost))
                return made[-1]

            asked = Member("m", connect)
            asked.breaker._clock = loop.time
            asked.set_replicas({name: Address(name, "here", "", "") for name in latencies_s})
            took: list[float] = []
            for _ in range(calls):
                started = loop.time()
                terms = Terms(started + deadline_s, deadline_s / 2, percentile)

                def done(reply, started=started):
                    took.append(loop.time() - started)

                found = asked.ask(Kind.CALL, payload(), terms, done)
                if found is not None:
                    loop.call_later(deadline_s, found.give_up)
                await asyncio.sleep(apart_s)
            await asyncio.sleep(deadline_s)
            return np.array(took), Counter({replica.address.replica_id: len(replica.asked) for replica in made})

        return run_virtually(scenario)

    return run


def stragglers(seed):
    """Latencies of which one in a hundred is a hundred times the usual."""
    rng = np.random.default_rng(seed)
    while True:
        yield USUAL_S * rng.lognormal(0.0, 0.2) * (100.0 if rng.random() < 0.01 else 1.0)


@pytest.mark.long
def test_hedging_takes_random_stragglers_out_of_the_tail_for_few_calls_more(ask):
    calls = 20_000
    replicas = {name: stragglers(seed) for seed, name in enumerate("abc")}
    plain, _ = ask(replicas, calls, 0.02)
    hedged, asked = ask(replicas, calls, 0.02, percentile=97)
    assert np.percentile(plain, 99.9) >= 10 * np.percentile(hedged, 99.9)
    assert calls < asked.total() <= (1 + HEDGE_BUDGET) * calls <= 1.05 * calls
    assert len(plain) == len(hedged) == calls


@pytest.mark.long
def test_a_replica_behind_a_slow_link_soon_gets_a_fraction_of_the_calls(ask):
    usual = {name: itertools.repeat(USUAL_S) for name in "abc"}
    _, before = ask(usual, 3000, USUAL_S / 2)
    _, after = ask({**usual, "a": itertools.repeat(50 * USUAL_S)}, 3000, USUAL_S / 2)
    assert before["a"] > 600
    assert after["a"] <= 0.2 * before["a"]


@pytest.mark.long
def test_a_replica_that_answers_no_more_costs_a_handful_of_calls(ask):
    replicas = {"a": itertools.repeat(1e9), "b": itertools.repeat(USUAL_S)}
    took, asked = ask(replicas, 5000, 0.02, deadline_s=0.25)
    assert len(took) >= 5000 - 30
    assert asked["a"] <= 40
    assert took.max() <= 0.25
