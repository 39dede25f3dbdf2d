"""Quantiles that are served: as many as the spec names, ascending."""

import asyncio

import numpy as np

from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.member_threads import running


def test_members_that_give_another_number_of_quantiles_are_missing_however_many_they_are():
    members = {
        name: {
            "model": "graph:linear",
            "inputs": ["features"],
            "output": "values",
            "config": {"seed": seed, "outputs": outputs},
        }
        for seed, (name, outputs) in enumerate({"a": 3, "b": 2, "c": 2}.items(), 1)
    }
    spec = {
        "name": "three_quantiles",
        "quantiles": [0.1, 0.5, 0.9],
        "inputs": {"features": {"datatype": "FP32", "shape": [4]}},
        "members": members,
        "fusion": {"rule": "quantile_average", "deadline_s": 30},
    }
    rows = {"features": np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)}

    async def scenario():
        async with running(spec) as engine:
            return await engine.infer(rows)

    answer = asyncio.run(scenario())
    np.testing.assert_allclose(answer.values, np.sort(evaluate(1, 3, [rows["features"]]), axis=1), rtol=1e-5)
    assert answer.members_missing == {"b": "shape", "c": "shape"}
