"""Names, labels and deadline of an answer are those of the revision that gave it."""

import asyncio

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import RequestError
from quorate.deployments.server.fusion_server import Served
from quorate.deployments.wire.inference import InferRequest
from tests.deployments.support.member_threads import FACTORIES

ROW = {"x": np.array([[1.0, 2.0]], np.float32)}


def prepare_other(doors, pair_spec):
    """A revision that calls its answer otherwise than the live one; its name."""
    fusion = {**pair_spec["fusion"], "members": ["a", "b"]}
    other = parse_spec({**pair_spec, "name": "two", "fusion": None, "fusions": {"other": fusion}})
    return doors.server.prepare(Served(other, FACTORIES, {member: member for member in other.members}))


@pytest.fixture(scope="module")
def two(open_doors, pair_spec):
    """Doors whose canary gets every request."""
    doors = open_doors({**pair_spec, "name": "two"})
    name = prepare_other(doors, pair_spec)
    doors.server.with_revisions(lambda revisions: revisions.start_canary(name, 1.0))
    return doors


def ask(doors, **request):
    return doors.server.call(answer(doors.server.service, **request))


async def answer(service, **request):
    with service.budget.hold() as hold:
        return await service.infer(InferRequest("two", ROW, **request), hold)


def test_an_answer_of_a_canary_is_called_as_the_canary_calls_it(two):
    live, canary = (
        two.engine.revision.name,
        next(iter(two.engine.revisions.outcomes().keys() - {two.engine.revision.name})),
    )
    found = ask(two)
    assert (list(found.outputs), found.parameters["revision"]) == (["other"], canary)
    found = ask(two, parameters={"members": "a"})
    assert (list(found.outputs), found.parameters["revision"]) == (["fused"], live)


def test_an_output_is_asked_of_the_revision_that_answers(two):
    assert list(ask(two, outputs=("other",)).outputs) == ["other"]
    with pytest.raises(RequestError, match="unexpected inference output 'fused' for model 'two'; it gives other"):
        ask(two, outputs=("fused",))


def test_an_answer_keeps_the_name_of_its_revision_when_another_goes_live_meanwhile(open_doors, pair_spec):
    doors = open_doors({**pair_spec, "name": "two"})
    name = prepare_other(doors, pair_spec)
    old = doors.engine.revision.name

    async def scenario():
        asked = asyncio.ensure_future(answer(doors.server.service))
        await asyncio.sleep(0)
        doors.engine.revisions.commit(name)
        return await asked

    found = doors.server.call(scenario())
    assert (list(found.outputs), found.parameters["revision"]) == (["fused"], old)
