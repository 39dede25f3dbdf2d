"""Weights that learn from labels in a running ensemble, and go live by themselves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from tests.deployments.support.known_answers import known_answers, two_known
from tests.deployments.support.waiting import until

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
LITTLE = {"num_cpus": 0.1}
CLASSES = ("red", "green", "blue")


def spec(folder, mode="live", weight=0.9, name="learning"):
    online = {"mode": mode, "publish_every": "1s"}
    plain: dict[str, Any] = {
        **two_known(name, weight, resources=LITTLE), "placement": "together", "serving": {"resources": LITTLE},
        "record": {"folder": str(folder)}, "online": online,
    }  # fmt: skip
    return parse_spec(plain)


def told(name="learning"):
    """What the ensemble's learning has come to."""
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    stored = Registry(ClusterStore()).online(name)
    return json.loads(stored)["report"] if stored else {"labels": 0}


def teach(client, random, shift, answers=20, permuted=False):
    """Ask for rows, and say of each what the member of a shift would draw."""
    for _ in range(answers):
        rows = random.normal(size=(20, 2)).astype(np.float32) * 2
        answer = client.infer(x=rows)
        probs = known_answers(rows, shift)
        classes = (probs.cumsum(axis=1) > random.random((20, 1))).argmax(axis=1)
        client.feedback(answer, [CLASSES[c] for c in (random.permutation(classes) if permuted else classes)])


@pytest.fixture(scope="module")
def deployed(cluster, tmp_path_factory):
    from quorate.deployments.control.deploy import delete, deploy

    yield deploy(spec(tmp_path_factory.mktemp("record")), FACTORIES)
    delete("learning")


@pytest.fixture
def client(deployed):
    with Client(deployed.http, model="learning") as client:
        yield client


def live_weights():
    from quorate.deployments.control.describe import describe_fusion

    return describe_fusion("learning")[0]["spec"]["fusion"]["weights"]


def test_weights_that_are_shown_to_be_better_go_live(client):
    random = np.random.default_rng(0)
    until(lambda: "mode" in told(), 20)
    teach(client, random, shift=-2)
    until(lambda: told()["labels"] == 400, 20)
    try:
        until(lambda: live_weights()["b"] > 0.7, 20)
    finally:
        print(json.dumps(told()))
