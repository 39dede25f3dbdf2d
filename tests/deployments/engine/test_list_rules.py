"""One request is one list: its rows are ranked among each other, however requests travel together."""

import asyncio

import numpy as np
import pytest
from scipy.stats import rankdata, zscore

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.factories.oracle import NAN, NONE
from tests.deployments.support.member_threads import running

WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}
POINTS = {"list_reciprocal_rank": lambda own: 1 / (60 + rankdata(-own)), "list_standard_scores": zscore}


def spec_of(rule):
    members = {
        name: {
            "model": "graph:linear",
            "inputs": ["row", "features"],
            "output": "values",
            "config": {"seed": seed, "outputs": 1, "index": seed},
        }
        for seed, name in enumerate("abc", 1)
    }
    return {
        "name": f"lists_{rule}",
        "task": "ranking",
        "inputs": {"row": {"datatype": "INT64", "shape": [3]}, "features": {"datatype": "FP32", "shape": [4]}},
        "members": members,
        "fusion": {"rule": rule, "weights": WEIGHTS, "deadline_s": 30},
    }


def request(random, length, missing):
    """A list; where ``missing``, member a gives NaN in its first two rows."""
    row = np.zeros((length, 3), np.int64)
    row[:, 1] = NONE
    if missing:
        row[:2, 1], row[:2, 2] = NAN, 1 << 1
    return {"row": row, "features": random.normal(size=(length, 4)).astype(np.float32)}


def expected(inputs, points, missing):
    length = len(inputs["row"])
    total, weight = np.zeros(length), np.zeros(length)
    for seed, (name, share) in enumerate(WEIGHTS.items(), 1):
        scores = evaluate(seed, 1, [inputs["row"][:, :1], inputs["features"]])[:, 0].astype(float)
        there = slice(2 if missing and name == "a" else 0, None)
        total[there] += share * points(scores[there])
        weight[there] += share
    return total / weight


@pytest.mark.parametrize("rule", POINTS)
def test_requests_that_travel_together_are_ranked_each_by_itself(rule):
    random = np.random.default_rng(0)
    missing = [number % 3 == 1 for number in range(24)]
    requests = [request(random, 4 + number % 5, gone) for number, gone in enumerate(missing)]

    async def scenario():
        async with running(spec_of(rule)) as engine:
            answers = await asyncio.gather(*(engine.infer(one) for one in requests))
            return answers, engine.metrics

    answers, _ = asyncio.run(scenario())
    for inputs, gone, answer in zip(requests, missing, answers, strict=True):
        np.testing.assert_allclose(answer.values[:, 0], expected(inputs, POINTS[rule], gone), rtol=1e-4, atol=1e-6)
        assert answer.rows_missing == ({"a": (0, 1)} if gone else {})


def test_what_does_not_rank_a_request_is_refused():
    spec = spec_of("list_borda")
    with pytest.raises(SpecError, match="task: it is regression, but rule 'list_borda' ranks rows"):
        parse_spec({**spec, "task": "regression"})
    inner = {key: value for key, value in spec.items() if key not in ("fusion", "task")}
    head = {"model": "graph:linear", "inputs": ["both"], "output": "values", "config": {"seed": 9, "outputs": 1}}
    inner["members"] = {**spec["members"], "head": head}
    inner["fusions"] = {
        "both": {"rule": "list_borda", "members": ["a", "b", "c"], "deadline_s": 0.2},
        "answer": {"rule": "mean", "members": ["head"], "deadline_s": 0.5},
    }
    with pytest.raises(SpecError, match="'list_borda' ranks the rows of a request; use it for the answer"):
        parse_spec(inner)
    conformal = {**spec["fusion"], "conformal": {"coverage": 0.9}}
    with pytest.raises(SpecError, match="ranks rows"):
        parse_spec({**spec, "fusion": conformal})
