"""Hedging, patience and deadline go with each call: what one revision wants never reaches another's requests."""

import asyncio
from typing import Any

import numpy as np

from quorate.deployments import parse_spec
from quorate.deployments.engine.engine import Engine
from quorate.deployments.routing.member import Member
from quorate.deployments.routing.terms import FAIR_SHARE
from tests.deployments.support.fake_replicas import FakeReplica

ROW = {"x": np.zeros((1, 3), np.float32)}


def spec(weight, **fusion):
    return parse_spec(
        {
            "name": "pair",
            "inputs": {"x": {"datatype": "FP32", "shape": [3]}},
            "members": {name: {"model": "m:build", "inputs": ["x"], "output": "values"} for name in "ab"},
            "fusion": {"rule": "weighted_mean", "weights": {"a": weight, "b": 1 - weight}, **fusion},
        }
    )


class Asked(Member):
    """A member with a replica that answers at once; it writes down on which terms it is asked."""

    def __init__(self, name):
        super().__init__(name, self._connect_fake)
        self.terms = []
        self.set_replicas({"r": FakeReplica().address})

    def ask(self, kind, payload, terms, done):
        self.terms.append((terms.patience_s, terms.hedge_percentile))
        call = super().ask(kind, payload, terms, done)
        self._replica.answer()
        return call

    def _connect_fake(self, address, on_lost) -> Any:
        self._replica = FakeReplica(on_lost=on_lost)
        return self._replica


def test_a_canary_that_was_stopped_leaves_the_live_revision_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("quorate.deployments.engine.engine.Member", lambda name, *_: Asked(name))
    quiet, eager = spec(0.5, deadline_s=4.0), spec(0.25, deadline_s=0.5, hedge={"after": "p50"})
    own, foreign = (FAIR_SHARE * 4.0, None), (FAIR_SHARE * 0.5, 50)

    async def scenario():
        engine = Engine(quiet, tmp_path)
        member = engine.revisions.live.members["a"]
        assert isinstance(member, Asked)

        async def ask(served=None):
            answer = await engine.infer(ROW, served=served)
            return answer.revision, member.terms[-1]

        canary = engine.prepare(eager)
        assert await ask() == (quiet.revision, own)
        engine.revisions.start_canary(canary, 0.0)
        assert await ask() == (quiet.revision, own)
        assert await ask(engine.revisions.get(canary)) == (canary, foreign)
        assert await ask() == (quiet.revision, own)
        engine.revisions.discard(canary)
        assert await ask() == (quiet.revision, own)
        engine.revisions.commit(engine.prepare(eager))
        assert await ask() == (canary, foreign)
        engine.close()

    asyncio.run(scenario())


def test_a_request_is_answered_by_the_revision_it_picked_though_another_goes_live_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr("quorate.deployments.engine.engine.Member", lambda name, *_: Asked(name))

    async def scenario():
        engine = Engine(spec(0.5), tmp_path)
        early = asyncio.ensure_future(engine.infer(ROW))
        await asyncio.sleep(0)  # it waits for its batch
        engine.revisions.commit(engine.prepare(spec(0.25)))
        late = await engine.infer(ROW)
        assert [(await early).revision, late.revision] == [spec(0.5).revision, spec(0.25).revision]
        engine.close()

    asyncio.run(scenario())
