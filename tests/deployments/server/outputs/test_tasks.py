"""Outputs of different tasks in one answer: labels, quantiles with intervals, rankings."""

import asyncio

import numpy as np
import pytest

from quorate.deployments import AsyncClient, Client
from tests.deployments.support.desk import ROWS, fusion, values


@pytest.fixture(scope="module")
def mixed(open_doors):
    """Labels that hold or not, quantiles with intervals, scores that rank the rows of a request, two classes."""
    conformal = {"coverage": 0.9, "thresholds": [{"members": ["low", "high"], "threshold": 0.25}]}
    return open_doors({
        "name": "mixed", "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {
            "shares": {**values([0, 1]), "model": "several:shares", "output": "probabilities"},
            "low": values([0, 0, 0]), "high": values([1, 1, 1]), "up": values([0]), "down": values([1]),
        },
        "fusions": {
            "genre": fusion("shares", classes=["art", "war"], task="multilabel"),
            "price": fusion("low", "high", conformal=conformal, rule="quantile_average", quantiles=[0.1, 0.5, 0.9]),
            "rank": fusion("up", "down", rule="list_reciprocal_rank"),
        },
        "outputs": ["genre", "price", "rank"],
    })  # fmt: skip


def test_each_output_is_of_its_own_task(mixed):
    with Client(mixed.http, model="mixed") as client:
        answer = client.infer(x=ROWS)
    shares = 1 / (1 + np.exp(-ROWS.astype(np.float64)))
    assert answer["genre"].labels == [
        [name for name, share in zip(["art", "war"], row, strict=True) if share >= 0.5] for row in shares
    ]
    np.testing.assert_allclose(answer.outputs["price"], ROWS.mean(axis=1, keepdims=True).repeat(3, axis=1), rtol=1e-5)
    low, high = np.array(answer["price"].prediction_intervals).T
    np.testing.assert_allclose([low, high], [ROWS.mean(axis=1) - 0.25, ROWS.mean(axis=1) + 0.25], atol=1e-5)
    places = np.argsort(np.argsort(-ROWS, axis=0), axis=0) + 1.0  # of each score among those of the request
    reciprocal = (1 / (60 + places)).sum(axis=1)
    assert np.argsort(answer.outputs["rank"][:, 0]).tolist() == np.argsort(reciprocal).tolist()


def test_requests_that_travel_together_are_ranked_each_by_itself(mixed):
    lists = [ROWS[at : at + 4] for at in range(0, 40, 4)]

    async def ask():
        async with AsyncClient(mixed.http, model="mixed") as client:
            return await asyncio.gather(*(client.infer(x=rows, outputs=["rank", "price"]) for rows in lists))

    together = asyncio.run(ask())
    with Client(mixed.http, model="mixed") as client:
        for rows, answer in zip(lists, together, strict=True):
            alone = client.infer(x=rows, outputs=["rank"])
            np.testing.assert_array_equal(answer.outputs["rank"], alone.outputs["rank"])
