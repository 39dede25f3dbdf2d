"""Members that hang, die, answer nonsense or are all gone, at the scale of thousands of requests: real processes."""

import asyncio
import itertools
import random
import signal
import time
from collections import Counter

import numpy as np
import pytest

from quorate.deployments.errors import DeadlineError
from quorate.fusion.errors import QuorateError, QuorumError
from tests.deployments.support.factories import oracle
from tests.deployments.support.member_processes import assert_right, ensemble, metric, row, serving, until

pytestmark = pytest.mark.long

CLIENTS = 64


def run(scenario):
    asyncio.run(scenario())


async def in_parallel(count, work, clients=CLIENTS):
    """Do ``work(number)`` for numbers from 1, by so many clients at a time."""
    numbers = iter(range(1, count + 1))

    async def client():
        for number in numbers:
            await work(number)

    await asyncio.gather(*[client() for _ in range(clients)])


def nothing_is_under_way(engine):
    """Whether every place, row and byte that requests held has come back."""
    peers = [peer for member in engine.revisions.live.members.values() for peer in member.replicas.values()]
    held = [peer.outstanding_rows + peer.outstanding_bytes for peer in peers]
    return engine.queued_rows == engine.unanswered_batches == sum(held) == 0


def test_a_member_that_is_always_late_costs_its_own_answers_and_nothing_else():
    async def scenario():
        async with serving(ensemble(deadline_s=0.5)) as (engine, _):
            missing: Counter[tuple[str, str]] = Counter()

            async def ask(number):
                answer = await engine.infer(row(number, oracle.SLEEP + 1000, "b"))
                assert_right(answer, row(number))
                missing.update(answer.members_missing.items())
                assert set(answer.members_missing) == {"b"}

            await in_parallel(320, ask)
            assert missing.total() == 320
            await until(lambda: nothing_is_under_way(engine))

    run(scenario)


@pytest.mark.parametrize("command", [oracle.SPIN, oracle.HOLD])
def test_after_a_thousand_requests_to_a_member_that_hangs_nothing_is_held(command):
    async def scenario():
        async with serving(ensemble(deadline_s=1.0)) as (engine, fleet):
            answered = 0

            async def ask(number):
                nonlocal answered
                try:
                    answer = await engine.infer(row(number, command, "b"))
                except DeadlineError:  # what hangs computes too: on a busy machine nobody else may have had a turn
                    return
                assert_right(answer, row(number))
                assert set(answer.members_missing) == {"b"}
                answered += 1

            await in_parallel(1000, ask)
            assert answered
            await until(lambda: nothing_is_under_way(engine))
            assert not fleet.replicas["b"][0].gone()  # it was there, and hung

    run(scenario)


def test_of_ten_thousand_requests_no_answer_holds_a_number_that_is_none():
    rng = random.Random(5)
    commands = [oracle.NONE] * 8 + [oracle.NAN, oracle.INFINITY]
    reasons: Counter[str] = Counter()

    async def scenario():
        async with serving(ensemble()) as (engine, _):

            async def ask(number):
                command, who = rng.choice(commands), rng.choice(["a", "b", "c", "ab", "bc"])
                answer = await engine.infer(row(number, command, who))
                assert np.isfinite(answer.values).all()
                expected = {} if command == oracle.NONE else dict.fromkeys(who, "nonfinite")
                assert dict(answer.members_missing) == expected
                assert_right(answer, row(number))
                reasons.update(answer.members_missing.values())

            await in_parallel(10_000, ask)
            assert reasons["nonfinite"] > 1000

    run(scenario)


def test_a_row_that_kills_its_member_costs_two_replicas_at_most_and_its_companions_no_answer():
    async def scenario():
        async with serving(ensemble(deadline_s=10.0), {"a": 3}) as (engine, fleet):
            requests = [row(number, oracle.DIE if number == 7 else oracle.NONE, "a") for number in range(1, 9)]
            answers = await asyncio.gather(*[engine.infer(request) for request in requests])
            assert metric(engine, "quorate_batch_rows_count") == 1
            for number, answer in enumerate(answers, start=1):
                assert dict(answer.members_missing) == {"a": "dead"}
                assert_right(answer, row(number))
            dead = [replica for replica in fleet.replicas["a"] if replica.gone()]
            assert 1 <= len(dead) <= 2
            assert {replica._process.exitcode for replica in dead} == {-signal.SIGSEGV}
            assert_right(await engine.infer(row(10)), row(10))
            assert not (await engine.infer(row(11))).degraded

    run(scenario)


def test_a_row_that_killed_two_replicas_is_held_back_from_its_member_and_others_are_not():
    """However often its client sends it again, and in whose company."""

    async def scenario():
        async with serving(ensemble(deadline_s=10.0), {"a": 4}) as (engine, fleet):
            poison = row(7, oracle.DIE, "a")
            first = await engine.infer(poison)
            assert dict(first.members_missing) == {"a": "dead"}
            for number in range(20, 40):
                again, other = await asyncio.gather(engine.infer(poison), engine.infer(row(number)))
                assert dict(again.members_missing) == {"a": "quarantined"}
                assert_right(again, row(7))
                assert not other.degraded
                assert_right(other, row(number))
            assert sum(replica.gone() for replica in fleet.replicas["a"]) == 2
            alone = metric(engine, "quorate_member_replies_total", member="a", outcome="quarantined")
            beside_others = metric(engine, "quorate_member_failed_rows_total", member="a", reason="quarantined")
            assert alone + beside_others == 20

    run(scenario)


def test_when_all_members_are_down_each_request_is_refused_with_the_reason_and_none_is_answered():
    async def scenario():
        async with serving(ensemble()) as (engine, fleet):
            for replicas in fleet.replicas.values():
                replicas[0].kill()
            await until(lambda: not any(engine.ready().values()))
            refused = []

            async def ask(number):
                with pytest.raises(QuorumError, match="a:dead, b:dead, c:dead") as caught:
                    await engine.infer(row(number))
                refused.append((caught.value.http_status, caught.value.grpc_code))

            await in_parallel(200, ask)
            assert refused == [(503, "UNAVAILABLE")] * 200
            assert nothing_is_under_way(engine)

    run(scenario)


@pytest.mark.parametrize("out_s", [1.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_while_a_whole_member_is_gone_every_answer_says_so_and_afterwards_it_is_asked_again(out_s):
    async def scenario():
        async with serving(ensemble(deadline_s=10.0), {"a": 2}) as (engine, fleet):
            numbers = itertools.count(1)
            for replica in list(fleet.replicas["a"]):
                replica.kill()
            await until(lambda: not engine.ready()["a"])
            fleet.replicas["a"].clear()
            ends = time.monotonic() + out_s
            missing: Counter[tuple[str, str]] = Counter()
            while time.monotonic() < ends:
                number = next(numbers)
                answer = await engine.infer(row(number))
                assert_right(answer, row(number))
                missing.update(answer.members_missing.items())
            assert set(missing) == {("a", "dead")}
            assert missing.total() == number
            fresh = fleet.launch("a")
            await asyncio.get_running_loop().run_in_executor(None, fresh.wait)
            fleet.announce(engine)
            await until(lambda: engine.ready()["a"])
            again = row(next(numbers))
            answer = await engine.infer(again)
            assert not answer.degraded
            assert_right(answer, again)

    run(scenario)


def test_requests_that_their_clients_leave_at_random_hold_nothing():
    rng = random.Random(3)

    async def scenario():
        async with serving(ensemble(deadline_s=5.0)) as (engine, _):

            async def ask(number):
                call = asyncio.ensure_future(engine.infer(row(number, oracle.SLEEP + 5, "abc")))
                await asyncio.wait([call], timeout=rng.uniform(0.0, 0.1))
                call.cancel()
                try:
                    assert_right(await call, row(number))
                except asyncio.CancelledError:
                    left.append(number)

            left: list[int] = []
            await in_parallel(1000, ask)
            assert len(left) > 100
            await until(lambda: nothing_is_under_way(engine), 5.0)
            # Whoever leaves in the moment of the answer has been answered, as the engine sees it.
            assert 0 < metric(engine, "quorate_requests_total", reason="cancelled") <= len(left)
            assert not (await engine.infer(row(2000))).degraded

    run(scenario)


def test_rows_whose_deadline_has_passed_never_run_on_a_member(tmp_path):
    log = tmp_path / "log"
    log.touch()

    async def scenario():
        async with serving(ensemble(log=log, serving={"max_batch_size": 1}, max_batch_size=1)) as (engine, fleet):
            slow = [asyncio.ensure_future(engine.infer(row(n, oracle.SLEEP + 400, "abc"))) for n in (1, 2)]
            await until(lambda: len(fleet.seen()) == 3)
            hasty = [asyncio.ensure_future(engine.infer(row(n), deadline_s=0.05)) for n in range(100, 300)]
            for found in await asyncio.gather(*hasty, return_exceptions=True):
                assert isinstance(found, DeadlineError)
            await asyncio.gather(*slow)
            assert_right(await engine.infer(row(3)), row(3))
            ran = {number for _, number in fleet.seen()}
            assert {1, 2, 3} <= ran
            assert len(ran - {1, 2, 3}) <= 0.05 * len(hasty)

    run(scenario)


def test_clients_that_ask_again_at_once_do_not_multiply_the_work_of_members(tmp_path):
    log = tmp_path / "log"
    log.touch()
    asked: Counter[str] = Counter()

    async def scenario():
        async with serving(ensemble(log=log, quorum=3, deadline_s=2.0), dict.fromkeys("abc", 2)) as (engine, fleet):

            async def ask(number):
                if number == 1000:
                    for replicas in fleet.replicas.values():  # a node with one replica of each
                        replicas[0].kill()
                for _ in range(3):
                    asked["attempts"] += 1
                    try:
                        assert_right(await engine.infer(row(number)), row(number))
                    except QuorateError:
                        continue
                    asked["answered"] += 1
                    return

            await in_parallel(3000, ask)
            assert asked["answered"] >= 0.99 * 3000
            assert len(fleet.seen()) <= 1.1 * 3 * asked["answered"]
            assert asked["attempts"] <= 1.1 * 3000

    run(scenario)
