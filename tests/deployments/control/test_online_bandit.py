"""A bandit in a running ensemble learns whom to ask from labels, and goes live with its models on every door."""

import os
import signal
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from quorate.deployments import Client, parse_spec
from quorate.deployments.learning.online.report import read_report
from quorate.fusion import fit_bandit
from tests.deployments.support.known_answers import known_answers
from tests.deployments.support.waiting import until

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
LITTLE = {"num_cpus": 0.1}
NAMES, CLASSES, NAME = ("a", "b", "c"), ("red", "green", "blue"), "choosing"
SHIFTS = {"a": 2.0, "b": -2.0, "c": -2.2}
WEIGHTS = (0.2, 1.0, 1.0)
# Labels that were accepted.
GIVEN = Counter[str]()


def rows_of(random, count):
    return random.normal(size=(count, 2)).astype(np.float32) * 1.5


def spec(folder, place, online="live"):
    """Of a bandit that was fitted where ``a`` is always right, and asks nobody else but three rows in ten."""
    rows = rows_of(np.random.default_rng(0), 400)
    said = torch.from_numpy(np.stack([known_answers(rows, SHIFTS[name]) for name in NAMES])).float()
    arms, labels = [[], ["b"], ["b", "c"]], said[0].argmax(dim=1)
    rule = fit_bandit(NAMES, ["a"], arms, said, labels, weights=WEIGHTS, explore=0.3).at_price(0.2).keeping(0.1, 0.95)
    save_file(rule.state(), place / "bandit.safetensors")
    for file in FACTORIES.glob("known.py"):
        (place / file.name).write_bytes(file.read_bytes())
    members = {
        name: {"model": "known:known", "config": {"shift": shift}, "inputs": ["x"], "output": "probabilities",
               "resources": LITTLE} for name, shift in SHIFTS.items()
    }  # fmt: skip
    fusion = {"rule": "bandit", "members": list(NAMES), "options": rule.options, "state": "bandit.safetensors",
              "deadline_s": 5.0}  # fmt: skip
    return parse_spec({
        "name": NAME, "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": list(CLASSES), "members": members,
        "fusion": fusion, "placement": "together", "serving": {"resources": LITTLE}, "record": {"folder": str(folder)},
        "online": {"mode": online, "publish_every": "1s"},
    })  # fmt: skip


def told():
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    return read_report(Registry(ClusterStore()).online(NAME)) or {"labels": 0}


def live():
    from quorate.deployments.control.describe import describe_fusion

    return describe_fusion(NAME)[0]["spec"]["fusion"]


def teach(client, random, shift, answers=12):
    """Ask for rows, and say of each what the member of a shift says."""
    for _ in range(answers):
        rows = rows_of(random, 20)
        answer = client.infer(x=rows)
        labels = known_answers(rows, shift).argmax(axis=1)
        GIVEN["labels"] += len(rows)
        client.feedback(answer, [CLASSES[c] for c in labels])


def all_are_learned_from():
    assert told()["labels"] <= GIVEN["labels"]
    return told()["labels"] == GIVEN["labels"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("spec")


@pytest.fixture(scope="module")
def deployed(cluster, place, tmp_path_factory):
    from quorate.deployments.control.deploy import delete, deploy

    yield deploy(spec(tmp_path_factory.mktemp("record"), place), place)
    delete(NAME)


@pytest.fixture
def client(deployed):
    with Client(deployed.http, model=NAME) as client:
        yield client


def right(client, shift):
    """How often answers to new rows are what the member of a shift says."""
    rows = rows_of(np.random.default_rng(9), 200)
    return (client.infer(x=rows).outputs["fused"].argmax(axis=1) == known_answers(rows, shift).argmax(axis=1)).mean()


def test_where_the_cheap_member_breaks_others_are_asked_by_itself(client):
    random = np.random.default_rng(0)
    until(lambda: "mode" in told(), 20)
    teach(client, random, shift=2.0, answers=5)
    assert right(client, -2.0) < 0.7
    teach(client, random, shift=-2.0, answers=20)
    until(all_are_learned_from, 20)
    until(lambda: live()["state"].startswith("learned/"), 20)
    until(lambda: right(client, -2.0) > 0.85, 20)
    until(lambda: [one["taken_back"] for one in told()["told"][:1]] == [False], 20)


def recorded():
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    record = Registry(ClusterStore()).latest(NAME)
    assert record is not None
    return record.live


def test_its_answers_are_fused_again_to_the_bit_by_the_models_that_were_learned(client):
    from quorate.deployments.learning.reading import open_record
    from quorate.tuning.evaluation.replay import replay

    live = recorded()
    assert live.files.name.name == live.spec.revision
    found = replay(open_record(f"{live.spec.record.folder}/{NAME}"))
    assert found.exact == found.rows > 500


def owner():
    """The process that learns."""
    from quorate.deployments.control.describe import describe
    from quorate.deployments.records.registry import learning_app

    found = describe([learning_app(NAME)])
    return found[0]["pid"] if found else 0


def test_it_goes_on_after_its_process_has_died_and_what_turns_out_worse_is_taken_back(client):
    before = owner()
    os.kill(before, signal.SIGKILL)
    until(lambda: owner() not in (0, before))
    until(all_are_learned_from)
    teach(client, np.random.default_rng(2), shift=2.0, answers=30)
    until(all_are_learned_from, 20)
    until(lambda: told()["told"][-1]["taken_back"], 20)
    assert live()["state"] == "bandit.safetensors"


def test_a_status_metrics_and_the_page_say_how_it_stands(deployed):
    from quorate.cluster.operations.status import status_of

    printed = str(status_of(NAME, online=True))
    for words in ("whom to ask is learned live", "members a row are asked", "the floor", "the deployed bandit back"):
        assert words in printed
    for words in ("quorate_online_members_asked{", 'of="floor"', 'what="taken_back"} 1.0'):
        until(lambda words=words: words in httpx.get(f"{deployed.http}/metrics").text, 20)
    policy = httpx.get(f"{deployed.http}/v2/online").json()["outputs"][0]["policy"]
    assert policy["points"][-1]["labels"] == GIVEN["labels"]


def test_in_the_shadow_it_tells_what_would_have_gone_live(client, place):
    from quorate.deployments.control.deploy import deploy

    deploy(spec(recorded().spec.record.folder, place, online="shadow"), place)
    until(lambda: told().get("mode") == "shadow", 20)
    until(all_are_learned_from, 20)
    before = told()["published"]
    teach(client, np.random.default_rng(3), shift=-2.0, answers=30)
    until(all_are_learned_from, 20)
    assert told()["outputs"][0]["changes"]
    assert told()["published"] == before
    assert live()["state"] == "bandit.safetensors"
