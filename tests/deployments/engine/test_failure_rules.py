"""What becomes of requests when members are slow, wrong, dead or busy; against real processes and real sockets."""

import asyncio
import itertools

import pytest

from quorate.deployments.engine.engine import UNANSWERED_PER_REPLICA
from quorate.deployments.errors import DeadlineError, OverloadedError
from quorate.fusion.errors import QuorateError, QuorumError
from tests.deployments.support.factories import oracle
from tests.deployments.support.member_processes import assert_right, ensemble, metric, row, rows, serving, until

pytestmark = pytest.mark.long


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
            answer = await engine.infer(row(7, oracle.SLEEP + 2000, "b"), deadline_s=0.2)
            assert dict(answer.members_missing) == {"b": "deadline"}
            assert_right(answer, row(7))

    run(scenario)


def test_missing_quorum_is_an_error_that_names_the_member_and_why():
    async def scenario():
        async with serving(ensemble(quorum=3)) as (engine, _):
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


def test_failing_member_is_left_out_and_probed_back(tmp_path):
    broken = tmp_path / "b"

    async def scenario():
        async with serving(ensemble(broken=broken)) as (engine, _):
            assert not (await engine.infer(row(1))).degraded
            broken.touch()

            async def ask_until(condition):
                for number in itertools.count(2):
                    answer = await engine.infer(row(number))
                    assert_right(answer, row(number))
                    assert dict(answer.members_missing) in ({}, {"b": "error"})
                    if condition(answer):
                        return
                    await asyncio.sleep(0.01)

            await asyncio.wait_for(ask_until(lambda _: engine.revisions.live.members["b"].left_out()), 20)
            assert (await engine.infer(row(1))).degraded
            broken.unlink()
            await asyncio.wait_for(ask_until(lambda answer: not answer.degraded), 20)

    run(scenario)


@pytest.mark.parametrize("command", [oracle.RAISE, oracle.NAN, oracle.WRONG_SHAPE])
def test_hostile_client_cannot_take_a_member_from_others(command):
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            for number in range(1, 9):  # before anybody has had an answer of it
                assert "b" in (await engine.infer(row(number, command, "b"))).members_missing
            assert not (await engine.infer(row(10))).degraded
            for number in range(11, 31):
                assert "b" in (await engine.infer(row(number, command, "b"))).members_missing
                await asyncio.sleep(0.005)  # time for verdicts
                assert not (await engine.infer(row(100 + number))).degraded
            assert engine.revisions.live.members["b"].left_out() == 0

    run(scenario)


def test_metrics_tell_full_degraded_and_failed_answers_apart_and_why():
    async def scenario():
        async with serving(ensemble(required=["a"])) as (engine, _):
            await engine.infer(row(1))
            await engine.infer(rows((2, oracle.NONE, ""), (3, oracle.NAN, "b"), (4, oracle.RAISE, "b")))
            await engine.infer(row(5, oracle.WRONG_SHAPE, "c"))
            with pytest.raises(QuorumError):
                await engine.infer(row(6, oracle.RAISE, "a"))
            for outcome, reason in [
                ("full", ""),
                ("degraded", "nonfinite"),
                ("degraded", "shape"),
                ("error", "quorum"),
            ]:
                assert metric(engine, "quorate_requests_total", outcome=outcome, reason=reason) == 1
            replies = {"ok": 3, "partial": 1, "error": 0}
            assert {
                o: metric(engine, "quorate_member_replies_total", member="b", outcome=o) for o in replies
            } == replies
            assert metric(engine, "quorate_member_replies_total", member="a", outcome="error") == 1
            failed = {"nonfinite": 1, "error": 1, "shape": 0}
            assert {
                r: metric(engine, "quorate_member_failed_rows_total", member="b", reason=r) for r in failed
            } == failed
            assert metric(engine, "quorate_stage_seconds_count", stage="member") == 12
            assert metric(engine, "quorate_stage_seconds_count", stage="fuse") == 4

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


def test_metrics_tell_how_many_rows_wait_while_no_member_answers():
    async def scenario():
        async with serving(ensemble(serving={"max_batch_size": 1})) as (engine, fleet):
            for replicas in fleet.replicas.values():
                replicas[0].stop()
            calls = []
            for n in range(UNANSWERED_PER_REPLICA + 8):
                calls.append(asyncio.create_task(engine.infer(row(n + 1))))
                await until(lambda: engine.unanswered_batches + engine.queued_rows == len(calls))
            assert engine.queued_rows == 8
            assert metric(engine, "quorate_queued_rows") == engine.queued_rows
            for replicas in fleet.replicas.values():
                replicas[0].resume()
            await asyncio.wait(calls)
            assert metric(engine, "quorate_queued_rows") == 0

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
                    engine.revisions.commit(engine.prepare(spec))
                    await asyncio.sleep(0.02)

            await asyncio.gather(publisher(), *[client(1000 * i + 1) for i in range(8)])
            assert seen == set(specs)

    run(scenario)


def test_each_request_keeps_its_own_deadline_inside_one_batch():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            hasty, patient = row(1), row(2, oracle.SLEEP + 500, "c")
            answers = await asyncio.gather(engine.infer(hasty, deadline_s=0.15), engine.infer(patient))
            assert metric(engine, "quorate_batch_rows_count") == 1
            assert [dict(answer.members_missing) for answer in answers] == [{"c": "deadline"}, {}]
            assert_right(answers[0], hasty)
            assert_right(answers[1], patient)

    run(scenario)


def test_poison_request_costs_no_other_request_of_its_batch():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            inputs = [row(n, oracle.RAISE if n == 9 else oracle.NONE, "b") for n in range(1, 33)]
            answers = await asyncio.gather(*[engine.infer(request) for request in inputs])
            assert metric(engine, "quorate_batch_rows_count") == 1
            for number, (answer, request) in enumerate(zip(answers, inputs, strict=True), start=1):
                assert dict(answer.members_missing) == ({"b": "error"} if number == 9 else {})
                assert_right(answer, request)

    run(scenario)


def test_hasty_clients_do_not_shut_a_member_out_for_others():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            for number in range(1, 11):
                answer = await engine.infer(row(number, oracle.SLEEP + 200, "c"), deadline_s=0.1)
                assert answer.members_missing.get("c") == "deadline"
            answer = await engine.infer(row(11))
            assert not answer.degraded

    run(scenario)


def test_deadline_may_pass_in_the_queue():
    async def scenario():
        async with serving(ensemble(serving={"max_batch_size": 1})) as (engine, fleet):
            for replicas in fleet.replicas.values():
                replicas[0].stop()
            calls = [asyncio.create_task(engine.infer(row(n))) for n in (1, 2)]
            await asyncio.sleep(0.05)
            with pytest.raises(DeadlineError, match="queue"):
                await engine.infer(row(3), deadline_s=0.2)
            assert engine.queued_rows == 0
            for replicas in fleet.replicas.values():
                replicas[0].resume()
            assert not any(answer.degraded for answer in await asyncio.gather(*calls))

    run(scenario)


def test_work_of_a_client_that_is_gone_never_starts(tmp_path):
    log = tmp_path / "log"

    async def scenario():
        async with serving(ensemble(log=log, serving={"max_batch_size": 1})) as (engine, fleet):
            first = asyncio.create_task(engine.infer(row(1, oracle.SLEEP + 400, "abc")))
            await until(lambda: len(fleet.seen()) == 3)
            sent, queued = (asyncio.create_task(engine.infer(row(n))) for n in (2, 3))
            await until(lambda: engine.queued_rows == 1)
            for gone in (sent, queued):
                gone.cancel()
            await asyncio.wait([sent, queued])
            assert engine.queued_rows == 0
            assert_right(await engine.infer(row(4)), row(4))
            assert_right(await first, row(1))
            assert {number for _, number in fleet.seen()} == {1, 4}
            assert metric(engine, "quorate_requests_total", reason="cancelled") == 2

    log.touch()
    run(scenario)


def test_publication_that_fails_changes_nothing():
    async def scenario():
        async with serving(ensemble()) as (engine, _):
            before = await engine.infer(row(1))
            for broken in (ensemble(("a", "b")), ensemble(rule="stacking", weights=None, state="absent.safetensors")):
                with pytest.raises((QuorateError, OSError)):
                    engine.prepare(broken)
            prepared = engine.prepare(ensemble(weights={"a": 0.2, "b": 0.3, "c": 0.5}))
            after = await engine.infer(row(1))
            assert after.revision == before.revision != prepared
            assert after.values.tobytes() == before.values.tobytes()

    run(scenario)
