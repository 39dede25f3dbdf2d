"""What becomes of requests when members are slow, wrong, dead or busy; against real processes and real sockets."""

import asyncio
import time

import pytest

from quorate.fusion.errors import DeadlineError, OverloadedError, QuorumError
from tests.deployments.factories import oracle
from tests.deployments.member_processes import assert_right, ensemble, row, rows, serving, until

NO_QUORUM = {"quorum": 3}


def run(scenario):
    asyncio.run(scenario())


def test_all_members_are_fused_when_all_answer():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            inputs = rows((5, oracle.NONE, ""), (9, oracle.NONE, ""))
            answer = await engine.infer(inputs)
            assert answer.members_used == ("a", "b", "c")
            assert not answer.degraded
            assert_right(answer, inputs)

    run(scenario)


def test_slow_member_is_left_out_at_the_deadline():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            started = time.monotonic()
            answer = await engine.infer(row(7, oracle.SLEEP + 2000, "b"), deadline_s=0.2)
            assert time.monotonic() - started < 1.2  # the contract: deadline + 1 s
            assert dict(answer.members_missing) == {"b": "deadline"}
            assert_right(answer, row(7))

    run(scenario)


def test_missing_quorum_is_an_error_that_names_the_member_and_why():
    async def scenario():
        async with serving(ensemble(**NO_QUORUM)) as (engine, _):
            with pytest.raises(DeadlineError, match="b:deadline"):
                await engine.infer(row(7, oracle.SLEEP + 1000, "b"), deadline_s=0.2)
            await asyncio.sleep(1)
            with pytest.raises(QuorumError, match="c:error"):
                await engine.infer(row(8, oracle.RAISE, "c"))

    run(scenario)


def test_required_member_that_fails_fails_the_request():
    async def scenario():
        async with serving(ensemble(required=["a"])) as (engine, _):
            with pytest.raises(QuorumError, match="a:error"):
                await engine.infer(row(3, oracle.RAISE, "a"))
            answer = await engine.infer(row(4, oracle.RAISE, "b"))
            assert dict(answer.members_missing) == {"b": "error"}

    run(scenario)


@pytest.mark.parametrize(
    ("command", "reason"),
    [(oracle.RAISE, "error"), (oracle.NAN, "nonfinite"), (oracle.INFINITY, "nonfinite")],
)
def test_poison_row_costs_only_itself(command, reason):
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            commands = [(n, oracle.NONE, "") for n in range(1, 12)]
            commands[4] = (5, command, "b")
            inputs = rows(*commands)
            answer = await engine.infer(inputs)
            assert dict(answer.members_missing) == {"b": reason}
            assert dict(answer.rows_missing) == {"b": (4,)}
            assert_right(answer, inputs)

    run(scenario)


def test_wrong_shape_is_that_member_missing():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            answer = await engine.infer(row(5, oracle.WRONG_SHAPE, "c"))
            assert dict(answer.members_missing) == {"c": "shape"}
            assert_right(answer, row(5))

    run(scenario)


def test_call_of_a_killed_replica_is_retried_on_another():
    async def scenario():
        async with serving(ensemble(**NO_QUORUM), {"a": 2}) as (engine, fleet):
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

    run(scenario)


def test_dead_member_is_named_dead():
    async def scenario():
        async with serving(ensemble()) as (engine, fleet):
            fleet.replicas["b"][0].kill()
            await until(lambda: engine.ready()["b"] == 0)
            answer = await engine.infer(row(6))
            assert dict(answer.members_missing) == {"b": "dead"}
            assert_right(answer, row(6))

    run(scenario)


def test_failing_member_is_left_out_and_probed_back():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            for number in range(1, 6):
                await engine.infer(row(number, oracle.RAISE, "b"))
            started = time.monotonic()
            answer = await engine.infer(row(9))
            assert "b" in answer.members_missing
            while time.monotonic() - started < 20:
                answer = await engine.infer(row(10))
                if not answer.degraded:
                    return
                assert dict(answer.members_missing) == {"b": "error"}
                await asyncio.sleep(0.02)
            raise AssertionError("the member was not probed back")

    run(scenario)


def test_draining_replica_loses_nothing():
    async def scenario():
        async with serving(ensemble(**NO_QUORUM), {"a": 2}) as (engine, fleet):
            leaving = fleet.replicas["a"][0]

            async def client(base):
                for number in range(base, base + 100):
                    assert_right(await engine.infer(row(number)), row(number))
                return 100

            clients = asyncio.gather(*[client(1000 * i + 1) for i in range(8)])
            leaving.drain()
            assert sum(await clients) == 800
            await until(leaving.gone)

    run(scenario)


def test_full_queue_refuses_at_once_and_recovers():
    async def scenario():
        async with serving(ensemble(serving={"max_queued_rows": 8, "max_batch_size": 4})) as (engine, fleet):
            for replicas in fleet.replicas.values():
                replicas[0].stop()
            calls = [asyncio.create_task(engine.infer(row(n))) for n in range(1, 65)]
            refused, waiting = await asyncio.wait(calls, timeout=0.5)
            assert {type(call.exception()) for call in refused} == {OverloadedError}
            assert waiting
            for replicas in fleet.replicas.values():
                replicas[0].resume()
            await asyncio.wait(waiting)
            assert not any(call.exception() for call in waiting)
            assert_right(await engine.infer(row(70)), row(70))

    run(scenario)


def test_published_weights_change_answers_between_requests_and_never_within_one():
    other = {"a": 0.1, "b": 0.1, "c": 0.8}

    async def scenario():
        specs = {spec.revision: spec for spec in (ensemble(), ensemble(weights=other))}
        async with serving(ensemble()) as (engine, _):
            seen = set()

            async def client(base):
                for number in range(base, base + 200):
                    answer = await engine.infer(row(number))
                    seen.add(answer.revision)
                    assert_right(answer, row(number), specs[answer.revision].output_fusion.weights)

            async def publisher():
                for spec in [*specs.values()] * 10:
                    engine.commit(engine.prepare(spec))
                    await asyncio.sleep(0.02)

            await asyncio.gather(publisher(), *[client(1000 * i + 1) for i in range(8)])
            assert seen == set(specs)

    run(scenario)
