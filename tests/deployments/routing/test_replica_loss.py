"""What becomes of calls when a replica is killed, stopped, drained or cut off: real processes, real sockets."""

import asyncio
import itertools

import pytest

from quorate.deployments.errors import DeadlineError
from quorate.deployments.routing.hedge import HEDGE_BUDGET
from tests.deployments.support.factories import oracle
from tests.deployments.support.member_processes import assert_right, ensemble, row, serving, until

pytestmark = pytest.mark.long


def test_call_of_a_killed_replica_is_retried_on_another():
    async def scenario():
        async with serving(ensemble(quorum=3), {"a": 2}) as (engine, fleet):
            first, second = fleet.replicas["a"]
            first.stop()
            calls = [asyncio.create_task(engine.infer(row(n))) for n in range(1, 5)]
            await asyncio.sleep(0.2)
            first.kill()
            for number, answer in enumerate(await asyncio.gather(*calls), start=1):
                assert answer.members_used == ("a", "b", "c")
                assert_right(answer, row(number))
            await until(lambda: engine.ready()["a"] == 1)
            assert not second.gone()

    asyncio.run(scenario())


def test_dead_member_is_named_dead():
    async def scenario():
        async with serving(ensemble()) as (engine, fleet):
            fleet.replicas["b"][0].kill()
            await until(lambda: engine.ready()["b"] == 0)
            answer = await engine.infer(row(6))
            assert dict(answer.members_missing) == {"b": "dead"}
            assert_right(answer, row(6))

    asyncio.run(scenario())


def test_draining_replica_loses_nothing():
    async def scenario():
        async with serving(ensemble(quorum=3), {"a": 2}) as (engine, fleet):
            leaving = fleet.replicas["a"][0]

            async def client(base):
                for number in range(base, base + 100):
                    assert_right(await engine.infer(row(number)), row(number))
                return 100

            clients = asyncio.gather(*[client(1000 * i + 1) for i in range(8)])
            leaving.drain()
            assert sum(await clients) == 800
            await until(leaving.gone)

    asyncio.run(scenario())


def test_lost_call_is_retried_once_and_not_twice(tmp_path):
    log = tmp_path / "log"

    async def scenario():
        async with serving(ensemble(log=log, deadline_s=30.0), {"a": 3}) as (engine, fleet):
            call = asyncio.create_task(engine.infer(row(1, oracle.SLEEP + 20_000, "a")))
            own = {replica.pid: replica for replica in fleet.replicas["a"]}
            for turn in (1, 2):
                await until(lambda turn=turn: len([pid for pid, _ in fleet.seen() if pid in own]) == turn)
                own[[pid for pid, _ in fleet.seen() if pid in own][-1]].kill()
            answer = await call
            assert dict(answer.members_missing) == {"a": "dead"}
            assert len({pid for pid, _ in fleet.seen() if pid in own}) == 2
            assert_right(answer, row(1))

    log.touch()
    asyncio.run(scenario())


def test_call_to_a_replica_that_died_unnoticed_goes_elsewhere():
    async def scenario():
        async with serving(ensemble(quorum=3), {"a": 2}) as (engine, fleet):
            for number in range(1, 9):
                victim = fleet.replicas["a"].pop()
                victim.kill()  # blocks the event loop: nobody has looked at the line when the next call is sent
                assert_right(await engine.infer(row(number)), row(number))
                fleet.launch("a").wait()
                fleet.announce(engine)
                await until(lambda: engine.ready()["a"] == 2)

    asyncio.run(scenario())


def test_lost_connection_is_made_again():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            [peer] = engine.revisions.live.members["b"].replicas.values()
            peer.close()
            assert dict((await engine.infer(row(1))).members_missing) == {"b": "dead"}
            engine.reconcile()
            await until(lambda: engine.ready()["b"] == 1)
            assert not (await engine.infer(row(2))).degraded

    asyncio.run(scenario())


def test_stopped_replica_is_left_out_beside_a_healthy_one_and_probed_back(tmp_path):
    log = tmp_path / "log"

    async def scenario():
        async with serving(ensemble(log=log, deadline_s=0.2, quorum=3), {"a": 2}) as (engine, fleet):
            stopped = fleet.replicas["a"][0]
            numbers = itertools.count(1)
            failed = 0

            async def ask_until(condition):
                nonlocal failed
                for number in numbers:
                    try:
                        assert_right(await engine.infer(row(number)), row(number))
                    except DeadlineError:
                        failed += 1
                    if condition():
                        return
                    await asyncio.sleep(0.01)

            stopped.stop()
            await asyncio.wait_for(ask_until(engine.revisions.live.members["a"].left_out), 30)
            assert failed >= 5
            for number in itertools.islice(numbers, 20):
                assert_right(await engine.infer(row(number)), row(number))
            assert stopped.pid not in {pid for pid, _ in fleet.seen()}
            stopped.resume()
            await asyncio.wait_for(ask_until(lambda: not engine.revisions.live.members["a"].left_out()), 30)
            assert stopped.pid in {pid for pid, _ in fleet.seen()}

    log.touch()
    asyncio.run(scenario())


def test_hedge_asks_a_second_replica_within_its_budget():
    async def scenario():
        async with serving(ensemble(hedge={"after": "p95"}, deadline_s=10.0, quorum=3)) as (engine, fleet):
            for number in range(1, 201):  # alone, it leaves the whole budget for what comes
                await engine.infer(row(number))
            fleet.launch("a").wait()
            fleet.announce(engine)
            await until(lambda: engine.ready()["a"] == 2)
            fleet.replicas["a"][0].stop()
            for number in range(201, 204):  # each would wait for the stopped replica until its deadline
                assert_right(await asyncio.wait_for(engine.infer(row(number)), 5), row(number))
            member = engine.revisions.live.members["a"]
            assert 0 < member.hedge.hedges <= HEDGE_BUDGET * member.hedge.calls

    asyncio.run(scenario())
