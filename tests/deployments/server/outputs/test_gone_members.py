"""Members of one of several outputs that are gone: the others answer whole."""

import asyncio

import numpy as np
import pytest

from quorate.deployments import AsyncClient, Client
from quorate.fusion.errors import QuorumError
from tests.deployments.support.desk import MOODS, ROWS, SHIFTS, fusion, known, member, values
from tests.deployments.support.waiting import until


def test_where_no_output_has_an_answer_there_is_an_error(open_doors, desk):
    doors = open_doors({
        "name": "gone", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": MOODS,
        "members": {"a": member("known", shift=1), "b": member("known", shift=2)},
        "fusions": {"one": fusion("a"), "two": fusion("b")}, "outputs": ["one", "two"],
    })  # fmt: skip
    with Client(doors.http, model="gone") as client:
        doors.stop_members("b")
        assert client.infer(x=ROWS).parameters["outputs_missing"].startswith("two:")
        doors.stop_members("a")
        with pytest.raises(QuorumError):
            client.infer(x=ROWS)


WANTED: list[list[str]] = [[], ["one"], ["two"]]


@pytest.fixture
def halved(open_doors, request):
    """Two outputs that share a trunk, each with two heads of its own; one waits for both of them."""
    name = f"halved{abs(hash(request.node.name)) % 10**6}"
    heads = {n: {**member("known", shift=SHIFTS[n]), "inputs": ["trunk"]} for n in ("a", "b", "late", "picky")}
    return open_doors({
        "name": name, "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": MOODS,
        "members": {"trunk": {**values([0, 1]), "output": "features"}, **heads},
        "fusions": {"one": fusion("a", "b"), "two": fusion("late", "picky", deadline_s=0.7, quorum=2)},
        "outputs": ["one", "two"],
    })  # fmt: skip


def test_while_the_members_of_one_output_are_gone_the_other_answers_whole(halved):
    """Requests for all get the one that has an answer, in full; who names the other is refused, and nobody waits."""
    name = halved.engine.spec.name
    with Client(halved.http, model=name) as client:
        assert client.infer(x=ROWS).parameters["degraded"] is False
        halved.stop_members("late", "picky")
        until(lambda: "outputs_missing" in client.infer(x=ROWS).parameters)

        async def ask():
            async with AsyncClient(halved.http, model=name) as many:
                calls = [many.infer(x=ROWS[at : at + 3], outputs=wanted) for at in range(37) for wanted in WANTED]
                return await asyncio.gather(*calls, return_exceptions=True)

        answers = asyncio.run(ask())
    for at, (everything, one, two) in enumerate(zip(*[iter(answers)] * 3, strict=True)):
        right = (known(1, ROWS[at : at + 3]) + known(-2, ROWS[at : at + 3])) / 2
        for answer in (everything, one):
            assert list(answer.outputs) == ["one"]
            assert answer["one"].parameters["degraded"] is False
            assert (answer["one"].parameters["coverage"], answer["one"].parameters["members_missing"]) == (1.0, "")
            np.testing.assert_allclose(answer.outputs["one"], right, rtol=1e-5)
        assert everything.parameters["outputs_missing"].startswith("two:dead")
        assert everything.parameters["members_missing"] == ""
        assert "outputs_missing" not in one.parameters
        assert isinstance(two, QuorumError)


def test_without_a_member_that_all_outputs_read_none_of_them_answers(halved):
    with Client(halved.http, model=halved.engine.spec.name) as client:
        client.infer(x=ROWS)
        halved.stop_members("trunk")
        with pytest.raises(QuorumError, match="dead"):
            client.infer(x=ROWS)
        for output in ("one", "two"):
            with pytest.raises(QuorumError):
                client.infer(x=ROWS, outputs=[output])
