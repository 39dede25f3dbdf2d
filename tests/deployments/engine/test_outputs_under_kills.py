"""Several outputs while members are killed: real processes, each output judged by itself."""

import asyncio

from quorate.deployments import parse_spec
from quorate.deployments.errors import DeadlineError
from quorate.fusion.errors import QuorumError
from tests.deployments.support.member_processes import assert_right, ensemble, metric, row, serving, until


def two_outputs(**second):
    """``pair`` of members a and b, ``one`` of c."""
    data = ensemble().model_dump(mode="json", exclude_defaults=True)
    del data["fusion"]
    pair = {"rule": "weighted_mean", "members": ["a", "b"], "weights": {"a": 0.5, "b": 0.3}, "deadline_s": 5.0}
    one = {"rule": "mean", "members": ["c"], "deadline_s": 1.0, **second}
    return parse_spec({**data, "fusions": {"pair": pair, "one": one}, "outputs": ["pair", "one"]})


def assert_counted(engine, asked, lost):
    """Each output's answers and errors, as many as clients saw."""
    full = metric(engine, "quorate_output_answers_total", output="pair", outcome="full")
    assert full == asked["pair"] + asked["both"]
    errors = sum(
        metric(engine, "quorate_output_answers_total", output="one", outcome="error", reason=reason)
        for reason in ("quorum", "deadline", "error")
    )
    assert errors >= lost["dead"]


def test_a_killed_member_costs_its_own_output_and_the_other_stays_whole_until_all_is_back():
    """Clients ask for both outputs and for each alone all the while; the member is killed, and started again."""
    asked = dict.fromkeys(("pair", "one", "both"), 0)
    lost = dict.fromkeys(("dead", "back"), 0)

    async def scenario():
        async with serving(two_outputs()) as (engine, fleet):
            served = engine.revisions.live
            over = asyncio.Event()

            async def ask(outputs, inputs):
                return await engine.infer_outputs(outputs, inputs, served)

            async def both():
                while not over.is_set():
                    asked["both"] += 1
                    inputs = row(asked["both"])
                    found = await ask(("pair", "one"), inputs)
                    assert not found.answers["pair"].degraded
                    for name, answer in found.answers.items():
                        assert_right(answer, inputs, {"a": 0.5, "b": 0.3, "c": 1.0})
                        assert answer.revision == engine.revision.name, name
                    if found.errors:
                        assert set(found.errors) == {"one"}
                        lost["dead"] += 1
                    else:
                        lost["back"] = asked["both"]

            async def alone(output):
                while not over.is_set():
                    asked[output] += 1
                    inputs = row(1_000_000 + asked[output])
                    try:
                        found = await ask((output,), inputs)
                    except (QuorumError, DeadlineError):
                        assert output == "one"
                        await asyncio.sleep(0.01)
                        continue
                    assert not found.degraded
                    assert_right(found.answers[output], inputs, {"a": 0.5, "b": 0.3, "c": 1.0})

            clients = [asyncio.ensure_future(work) for work in (both(), both(), alone("pair"), alone("one"))]
            await until(lambda: asked["both"] > 50)
            killed, fleet.replicas["c"] = fleet.replicas["c"][0], []
            killed.kill()
            await until(lambda: lost["dead"] > 50)
            fresh = fleet.launch("c")
            await asyncio.to_thread(fresh.wait)
            fleet.announce(engine)
            engine.reconcile()
            await until(lambda: engine.ready()["c"] == 1)
            since = asked["both"]
            await until(lambda: lost["back"] > since)
            over.set()
            await asyncio.gather(*clients)
            assert_counted(engine, asked, lost)
            await until(lambda: engine.queued_rows == engine.unanswered_batches == 0)

    asyncio.run(scenario())
    assert all(asked.values())
