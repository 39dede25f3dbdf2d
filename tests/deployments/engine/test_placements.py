"""What a member that fails costs the others, where all share a process and where the engine runs them itself."""

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path

import pytest

from quorate.deployments.engine.engine import Engine
from quorate.deployments.errors import DeadlineError
from quorate.deployments.logs.files import LogFile
from quorate.deployments.members.inside.inside_members import InsideMembers
from quorate.deployments.routing.replica import Address
from quorate.fusion.errors import QuorumError
from tests.deployments.support.factories import oracle
from tests.deployments.support.member_processes import (
    FACTORIES,
    TOGETHER,
    assert_right,
    ensemble,
    metric,
    row,
    rows,
    serving,
    until,
)

pytestmark = pytest.mark.long


@contextlib.asynccontextmanager
async def inside(spec):
    """An engine that runs all members itself."""
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        jobs = [(spec.job(name), LogFile("oracle", name, "r")) for name in spec.members]
        members = InsideMembers(jobs, FACTORIES, "inside", "node", Path(folder))
        apps = dict.fromkeys(spec.members, "all")
        engine = Engine(spec, FACTORIES, "node", None, apps, lambda replica: members.thread)
        engine.revisions.set_replicas("all", {"inside": Address.announced(members.address)})
        try:
            yield engine, members
        finally:
            engine.close()
            members.stop()


@pytest.fixture(params=["together", "inside"])
def started(request):
    """Starts an engine before members that share a process, its own or another."""
    return inside if request.param == "inside" else lambda spec: serving(spec, together=True)


def run(scenario):
    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("command", "reason"),
    [(oracle.RAISE, "error"), (oracle.NAN, "nonfinite"), (oracle.INFINITY, "nonfinite"), (oracle.WRONG_SHAPE, "shape")],
)
def test_a_poison_row_costs_its_member_that_row_and_nobody_else_any(started, command, reason):
    async def scenario():
        async with started(ensemble()) as (engine, _):
            inputs = rows(*((n, command if n == 5 else oracle.NONE, "b") for n in range(1, 12)))
            answer = await engine.infer(inputs, explain=True)
            assert dict(answer.members_missing) == {"b": reason}
            assert dict(answer.rows_missing) == ({"b": (4,)} if reason != "shape" else {})
            assert_right(answer, inputs)
            assert set(answer.explanation.outputs) == {"a", "b", "c"}

    run(scenario)


def test_a_member_that_is_late_is_left_out_at_the_deadline_and_the_others_are_not(started):
    async def scenario():
        async with started(ensemble()) as (engine, _):
            for number in range(1, 4):  # who is late is run last, once that is known
                await engine.infer(row(number, oracle.SLEEP + 20, "a"))
            answer = await engine.infer(row(7, oracle.SLEEP + 500, "a"), deadline_s=0.2)
            assert dict(answer.members_missing) == {"a": "deadline"}
            assert_right(answer, row(7))
            whole = await engine.infer(row(8))
            assert not whole.degraded
            assert_right(whole, row(8))

    run(scenario)


def test_quorum_and_required_members_hold_as_they_do_apart(started):
    async def scenario():
        async with started(ensemble(quorum=3)) as (engine, _):
            with pytest.raises(DeadlineError, match="b:deadline"):
                await engine.infer(row(7, oracle.SLEEP + 400, "b"), deadline_s=0.1)

    run(scenario)


def test_what_nobody_waits_for_is_not_run(started, tmp_path):
    log = tmp_path / "log"
    log.touch()

    async def scenario():
        async with started(ensemble(log=log)) as (engine, _):
            slow = asyncio.ensure_future(engine.infer(row(1, oracle.SLEEP + 300, "abc")))
            await until(lambda: log.read_text().count("\n"))
            hasty = [asyncio.ensure_future(engine.infer(row(n), deadline_s=0.05)) for n in range(100, 120)]
            for found in await asyncio.gather(*hasty, return_exceptions=True):
                assert isinstance(found, DeadlineError)
            await slow
            assert_right(await engine.infer(row(3)), row(3))
            ran = {int(line.split()[1]) for line in log.read_text().splitlines()}
            assert ran == {1, 3}

    run(scenario)


def test_each_member_is_counted_by_itself(started):
    async def scenario():
        async with started(ensemble()) as (engine, other):
            await engine.infer(rows((2, oracle.NONE, ""), (3, oracle.NAN, "b")))
            ok = {m: metric(engine, "quorate_member_replies_total", member=m, outcome="ok") for m in "abc"}
            assert ok == {"a": 1, "b": 0, "c": 1}
            assert metric(engine, "quorate_member_replies_total", member="b", outcome="partial") == 1
            process = "inside" if hasattr(other, "thread") else "shared"
            assert metric(engine, "quorate_member_process_info", member="b", process=process) == 1

    run(scenario)


def test_a_row_that_ends_the_process_costs_all_of_its_members_and_is_held_back_after_two():
    async def scenario():
        async with serving(ensemble(deadline_s=10.0), {"a": 3}, together=True) as (engine, fleet):
            with pytest.raises(QuorumError, match="a:dead, b:dead, c:dead"):
                await engine.infer(row(7, oracle.DIE, "a"))

            def dead():
                return [replica for replica in fleet.replicas[TOGETHER] if replica.gone()]

            await until(lambda: len(dead()) == 2, 10.0)  # the kernel has closed its sockets before it is gone
            assert {replica._process.exitcode for replica in dead()} == {-signal.SIGSEGV}
            with pytest.raises(QuorumError, match="quarantined"):
                await engine.infer(row(7, oracle.DIE, "a"))
            answer = await engine.infer(row(8))
            assert not answer.degraded
            assert_right(answer, row(8))

    run(scenario)


def test_a_member_that_does_not_return_stops_neither_the_event_loop_nor_answers_and_is_unhealthy():
    async def scenario():
        spec = ensemble(deadline_s=5.0)
        b = spec.members["b"].model_copy(update={"stall_timeout_s": 0.3})
        spec = spec.model_copy(update={"members": {**spec.members, "b": b}})
        async with inside(spec) as (engine, members):
            members.check_health()
            late = await engine.infer(row(1, oracle.SLEEP + 1500, "b"), deadline_s=0.2)
            assert "b" in late.members_missing
            with pytest.raises(DeadlineError):  # the thread has not come back, and the event loop keeps time
                await engine.infer(row(2), deadline_s=0.2)
            with pytest.raises(RuntimeError, match="member 'b' has made no progress"):
                members.check_health()
            await until(lambda: members.thread.stalled_s() == 0)
            members.check_health()
            assert_right(await engine.infer(row(3)), row(3))

    run(scenario)


def test_the_thread_that_a_member_ends_takes_all_of_them_and_says_so():
    async def scenario():
        async with inside(ensemble()) as (engine, members):
            assert_right(await engine.infer(row(1)), row(1))
            members.members[0].predictor.model._call = lambda rows: exit()  # what a model's own code may do
            try:
                missing = (await engine.infer(row(2))).members_missing
            except QuorumError as error:  # it came first
                missing = dict(one.split(":") for one in error.missing.split(", "))
            assert missing["a"] == "dead"
            assert engine.ready() == {"a": 0, "b": 0, "c": 0}
            with pytest.raises(RuntimeError, match="has ended"):
                members.check_health()

    run(scenario)
