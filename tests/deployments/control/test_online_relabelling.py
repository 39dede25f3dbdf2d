"""A class that labels call otherwise from some time on, in a running ensemble: answered so, and by its name again."""

import json
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from quorate.deployments.learning.online.report import read_report
from tests.deployments.support.known_answers import known_answers, two_known
from tests.deployments.support.waiting import until

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
LITTLE = {"num_cpus": 0.1}
CLASSES = ("red", "green", "blue")
NAME = "renamed"
GIVEN = Counter[str]()


def told():
    """What the ensemble's learning has come to."""
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    return read_report(Registry(ClusterStore()).online(NAME)) or {"labels": 0}


def live():
    """The fusion that answers."""
    from quorate.deployments.control.describe import describe_fusion

    return describe_fusion(NAME)[0]["spec"]["fusion"]


def fused(client, rows):
    """(B, 3) answered now."""
    return next(iter(client.infer(x=rows).outputs.values()))


def teach(client, random, names=CLASSES, answers=20):
    """Ask for rows, and label each by what the members draw, called so; until all of that is learned from."""
    for _ in range(answers):
        rows = random.normal(size=(20, 2)).astype(np.float32) * 6
        answer = client.infer(x=rows)
        classes = (known_answers(rows, 1).cumsum(axis=1) > random.random((20, 1))).argmax(axis=1)
        GIVEN["labels"] += len(rows)
        client.feedback(answer, [names[c] for c in classes])
    until(lambda: told()["labels"] == GIVEN["labels"], 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("record")


@pytest.fixture(scope="module")
def deployed(cluster, folder):
    from quorate.deployments.control.deploy import delete, deploy

    plain = two_known(NAME, 0.5, resources=LITTLE) | {"serving": {"resources": LITTLE}, "placement": "together"}
    plain["members"]["b"]["config"] = {"shift": 0.9}
    plain |= {"record": {"folder": str(folder)}, "online": {"mode": "live", "publish_every": "1s"}}
    yield deploy(parse_spec(plain), FACTORIES)
    delete(NAME)


@pytest.fixture
def client(deployed):
    with Client(deployed.http, model=NAME) as client:
        yield client


def test_a_class_that_labels_call_otherwise_is_answered_so_without_a_person(client, deployed, folder):
    from quorate.cluster.operations.learning.replay import replay
    from quorate.cluster.operations.status import status_of

    random = np.random.default_rng(0)
    until(lambda: "mode" in told(), 20)
    teach(client, random)
    assert "relabel" not in live()
    teach(client, random, ("green", "green", "blue"))
    until(lambda: live().get("relabel"), 20)
    assert live()["relabel"]["red"]["green"] > 0.75
    rows = random.normal(size=(50, 2)).astype(np.float32) * 6
    by_name = live()["weights"]["a"] * known_answers(rows, 1) + live()["weights"]["b"] * known_answers(rows, 0.9)
    matrix = np.eye(3)
    matrix[:, 0] = [live()["relabel"]["red"].get(name, 0.0) for name in CLASSES]
    np.testing.assert_allclose(fused(client, rows), by_name @ matrix.T, atol=1e-5)
    until(lambda: told()["told"], 20)
    printed = str(status_of(NAME))
    assert "red is labelled green: answered so since 20" in printed
    at_door = lambda: httpx.get(f"{deployed.http}/v2/online").json()  # noqa: E731
    until(lambda: at_door()["outputs"][0]["relabelled"], 20)
    assert at_door()["outputs"][0]["relabelled"][0]["class"] == "red"
    series = 'quorate_online_relabelled{answered_as="green",class="red",ensemble="renamed",output="fused"}'
    until(lambda: series in httpx.get(f"{deployed.http}/metrics").text, 20)
    until(lambda: replay(str(folder / NAME)).rows >= GIVEN["labels"], 20)
    again = replay(str(folder / NAME), online=True)
    assert again.exact == again.rows
    assert again.online["fused"].changes[0].relabel["red"]["green"] > 0.75


def test_and_by_its_name_again_when_labels_call_it_so(client):
    random = np.random.default_rng(1)
    teach(client, random, answers=10)
    until(lambda: not live().get("relabel"), 20)
    until(lambda: told()["told"][-1]["taken_back"], 20)
    assert json.dumps(told()["outputs"][0]["relabelled"]) == "[]"


def test_what_a_person_calls_classes_is_what_is_live(client):
    client.publish({"relabel": {"blue": "red"}})
    until(lambda: any(one["class"] == "blue" for one in told()["outputs"][0]["relabelled"]), 20)
    assert told()["outputs"][0]["changes"] == []
    rows = np.ones((1, 2), np.float32)
    assert fused(client, rows)[0, 2] == 0
