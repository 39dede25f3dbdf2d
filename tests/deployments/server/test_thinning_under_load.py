"""A member that cannot keep up is left out where the spec says so, and asked again when fewer come."""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import numpy as np
import pytest

from tests.deployments.support.slow_ensemble import body

ROWS = np.array([[0.25, -1.5]], np.float32)


@pytest.fixture
def thin(open_doors, tmp_path):
    """A quick member, and one that takes 20 rows a second."""
    (tmp_path / "switch").write_text("0.05")
    config = {"shift": 2, "switch": str(tmp_path / "switch")}
    members: dict[str, dict[str, Any]] = {
        "quick": {"model": "known:known", "config": {"shift": 1}},
        "slow": {"model": "known:slow", "config": config, "max_batch_size": 1},
    }
    spec = {
        "name": "thin", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": ["red", "green", "blue"],
        "members": {name: {**one, "inputs": ["x"], "output": "probabilities"} for name, one in members.items()},
        "fusion": {"rule": "mean", "deadline_s": 0.5, "overload": "thin"},
        "serving": {"max_batch_size": 1},
    }  # fmt: skip
    return open_doors(spec).http + "/v2/models/thin/infer"


def test_under_too_much_load_answers_say_who_was_shed_and_are_those_of_the_others(thin):
    answers: list[dict] = []

    async def scenario():
        async with httpx.AsyncClient(timeout=60) as client:

            async def ask(members=None):
                reply = await client.post(thin, content=body(ROWS))
                assert reply.status_code == 200, reply.text
                answers.append(reply.json())
                return answers[-1]["parameters"]["members_missing"]

            alone = await ask()
            assert alone == ""
            asking = set()
            until = time.monotonic() + 60
            while not answers[-20:] or any(
                one["parameters"]["members_missing"] != "slow:shed" for one in answers[-20:]
            ):
                assert time.monotonic() < until, Counter(one["parameters"]["members_missing"] for one in answers)
                task = asyncio.ensure_future(ask())
                asking.add(task)
                task.add_done_callback(asking.discard)
                await asyncio.sleep(0.01)
            await asyncio.gather(*asking)
            while await ask() != "":  # ten a second are few enough
                assert time.monotonic() < until
                await asyncio.sleep(0.1)

    asyncio.run(scenario())
    kinds = {one["parameters"]["members_missing"]: one for one in answers}
    assert kinds.keys() <= {"", "slow:shed", "slow:deadline"}
    shed = kinds["slow:shed"]
    assert shed["parameters"]["degraded"]
    assert shed["parameters"]["coverage"] == 0.5
    assert shed["parameters"]["members_used"] == "quick"
    if "slow:deadline" in kinds:  # left out or late, the answer is of the same members
        assert shed["outputs"] == kinds["slow:deadline"]["outputs"]
    assert shed["outputs"] != kinds[""]["outputs"]
