"""Weights that learn from labels in a running ensemble, and go live by themselves."""

import json
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    return read_report(stored) or {"labels": 0}


# Labels that were accepted.
GIVEN = Counter[str]()


def all_are_learned_from():
    """Whether each is, once."""
    assert told()["labels"] <= GIVEN["learning"]
    return told()["labels"] == GIVEN["learning"]


def teach(client, random, shift, answers=20, permuted=False):
    """Ask for rows, and say of each what the member of a shift would draw."""
    for _ in range(answers):
        rows = random.normal(size=(20, 2)).astype(np.float32) * 2
        answer = client.infer(x=rows)
        probs = known_answers(rows, shift)
        classes = (probs.cumsum(axis=1) > random.random((20, 1))).argmax(axis=1)
        GIVEN["learning"] += len(rows)
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
    until(all_are_learned_from, 20)
    until(lambda: live_weights()["b"] > 0.7, 20)


def owner():
    """The process that learns."""
    from quorate.deployments.control.describe import describe
    from quorate.deployments.records.registry import learning_app

    found = describe([learning_app("learning")])
    return found[0]["pid"] if found else 0


def test_it_goes_on_after_its_process_has_died_and_counts_no_label_twice(client):
    before, random = owner(), np.random.default_rng(1)
    rows = random.normal(size=(1, 2)).astype(np.float32)
    answer = client.infer(x=rows)
    os.kill(before, signal.SIGKILL)
    assert client.feedback(answer, "blue").counts["accepted"] == 1
    GIVEN["learning"] += 1
    assert client.feedback(answer, "blue").counts["again"] == 1
    assert client.feedback(answer, "red").counts["contradicting"] == 1
    until(lambda: owner() not in (0, before))
    teach(client, random, shift=-2, answers=1)
    until(all_are_learned_from)
    assert told()["outputs"][0]["changes"][0]["taken_back"] is False


def test_weights_that_turn_out_worse_are_taken_back(client):
    random = np.random.default_rng(2)
    teach(client, random, shift=1)
    until(lambda: live_weights() == pytest.approx({"a": 0.9, "b": 0.1}), 20)
    until(lambda: told()["told"][-1]["taken_back"], 20)


def test_what_a_person_publishes_is_what_learned_weights_are_compared_with_from_then_on(client):
    client.publish({"weights": {"a": 0.6, "b": 0.4}})
    until(lambda: told()["outputs"][0]["live_weights"] == [0.6, 0.4], 20)
    assert told()["outputs"][0]["changes"] == []


def test_permuted_labels_publish_nothing(client):
    teach(client, np.random.default_rng(3), shift=1, permuted=True)
    until(all_are_learned_from, 20)
    assert told()["outputs"][0]["changes"] == []


def test_a_status_and_metrics_say_where_learning_stands(deployed):
    from quorate.cluster.operations.status import status_of

    found = status_of("learning", online=True)
    assert found.online["mode"] == "live"
    printed = str(found)
    for words in ("weights learn live", "published 1 times, taken back 1 times", "regret through time", "taken back"):
        assert words in printed
    counted = 'quorate_online_changes_total{ensemble="learning",what="taken_back"} 1.0'
    until(lambda: counted in httpx.get(f"{deployed.http}/metrics").text, 20)
    until(lambda: httpx.get(f"{deployed.http}/v2/online").json()["labels"] == GIVEN["learning"], 20)
    at_door = httpx.get(f"{deployed.http}/v2/online").json()
    assert [one["taken_back"] for one in at_door["told"]] == [False, True]
    assert at_door["outputs"][0]["weights"][-1]["labels"] == GIVEN["learning"]


def own_lease_is_held():
    """Whether something is being changed that nobody has asked for."""
    from quorate.deployments.control.ray_private import ClusterStore

    store = ClusterStore()
    leases = [json.loads(store.get(key) or b"{}") for key in store.keys("lease/learning/")]
    return any(one and one["by_itself"] and not one["over"] for one in leases)


def publish_over(learned, waits, monkeypatch):
    """Publish as an operator: ``waits`` is set while somebody else is at it, and learned weights are live by then."""
    from quorate.deployments.control.publish import publish
    from quorate.deployments.records import lease
    from quorate.deployments.spec.patch import revise

    free_number = lease._Waiter.free_number

    def seen(waiter):
        found = free_number(waiter)
        if found is None:
            waits.set()
        return found

    def revised(record):
        learned.append(record.live.spec.fusion.weights)
        return revise(record.live.spec, json.dumps({"fusion": {"weights": {"a": 0.6, "b": 0.4}}}))

    monkeypatch.setattr(lease._Waiter, "free_number", seen)
    publish("learning", revised)


def test_learning_waits_for_an_operators_command_and_an_operators_publication_for_one_of_learning(client, monkeypatch):
    from quorate.deployments.control.describe import describe_fusion
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.lease import hold

    before, learned, waits = told(), list[Any](), threading.Event()
    client.publish({"weights": {"a": 0.5, "b": 0.5}})
    until(lambda: told()["outputs"][0]["live_weights"] == [0.5, 0.5], 20)
    door = describe_fusion("learning")[0]["pid"]
    with hold(ClusterStore(), "learning", "a deployment"):
        teach(client, np.random.default_rng(5), shift=-2)
        until(lambda: "a deployment" in told()["trouble"], 20)
        assert live_weights() == {"a": 0.5, "b": 0.5}
        os.kill(door, signal.SIGSTOP)  # a rollout goes no further than to this door
    with ThreadPoolExecutor(1) as pool:
        try:
            until(own_lease_is_held, 20)
            publishing = pool.submit(publish_over, learned, waits, monkeypatch)
            assert waits.wait(20)
        finally:
            os.kill(door, signal.SIGCONT)
        publishing.result()
    assert learned[0]["b"] > 0.5
    assert live_weights() == {"a": 0.6, "b": 0.4}
    until(lambda: told()["outputs"][0]["live_weights"] == [0.6, 0.4], 20)
    assert told()["published"] == before["published"] + 1
    assert (told()["rolled_back"], told()["trouble"]) == (before["rolled_back"], "")


def test_in_the_shadow_it_learns_and_publishes_nothing(client, deployed):
    from quorate.deployments.control.deploy import deploy

    folder = Path(deployed_spec().record.folder)
    deploy(spec(folder, mode="shadow"), FACTORIES)
    until(lambda: told().get("mode") == "shadow", 20)
    teach(client, np.random.default_rng(4), shift=-2)
    until(all_are_learned_from, 20)
    assert told()["outputs"][0]["changes"]
    assert live_weights() == pytest.approx({"a": 0.9, "b": 0.1})


def deployed_spec():
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    record = Registry(ClusterStore()).latest("learning")
    assert record is not None
    return record.live.spec
