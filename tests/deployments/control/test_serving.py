"""An ensemble on a real Ray cluster: Serve places and replaces the members, answers come over real sockets."""

import contextlib
import os
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from scipy.special import softmax

from quorate.deployments import Client, parse_spec
from quorate.deployments.errors import DeployError
from quorate.fusion.errors import QuorateError
from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.known_answers import known_answers
from tests.deployments.support.traffic import Traffic

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)


def known(shift, rows=ROWS):
    return known_answers(rows, shift)


def member(factory="known", **rest):
    config = rest.pop("config", {})
    return {
        "model": f"known:{factory}", "config": config, "inputs": ["x"], "output": "probabilities",
        "resources": {"num_cpus": 0.1}, **rest,
    }  # fmt: skip


def ensemble(name, wired, **fusion):
    return parse_spec(
        {
            "name": name,
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "classes": ["red", "green", "blue"],
            "members": wired,
            "fusion": {"rule": "weighted_mean", "deadline_s": 5.0, **fusion},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )


@contextlib.contextmanager
def deploying():
    """Deploys, and takes down what it has deployed: idle replicas are not free."""
    from quorate.deployments.control.deploy import delete, deploy
    from quorate.deployments.control.describe import ensembles

    names = set()

    def run(spec, **options):
        names.add(spec.name)
        return deploy(spec, FACTORIES, **options)

    yield run
    for name in names & set(ensembles()):
        delete(name)


@pytest.fixture
def deploy(cluster):
    with deploying() as run:
        yield run


class Shared:
    """One ensemble for all tests that only want other weights: they are another revision, and start nothing.

    Attributes:
        switch: how many seconds its slow member takes, as a file.
    """

    def __init__(self, deploy, switch):
        self._deploy, self.switch = deploy, switch
        self.members = {
            "a": member(config={"shift": 1}),
            "b": member(config={"shift": -2}),
            "reordered": member(config={"shift": 1}, classes=["blue", "red", "green"]),
            "wide": {**member("wide", config={"columns": 2}), "output": "logits", "classes": ["green", "red"]},
            "slow": member("slow", config={"shift": 0, "switch": f"file:{switch}"}),
            "picky": member("picky", config={"shift": -1}),
        }

    def spec(self, weights, **fusion):
        return ensemble("shared", self.members, weights={**dict.fromkeys(self.members, 0.0), **weights}, **fusion)

    def deploy(self, weights, **fusion):
        """The ensemble with these weights; members of weight 0 are not asked."""
        return self._deploy(self.spec(weights, **fusion))


@pytest.fixture(scope="module")
def shared(cluster, tmp_path_factory):
    switch = tmp_path_factory.mktemp("slow") / "seconds"
    switch.write_text("0")
    with deploying() as run:
        yield Shared(run, switch)


def pids(name, members):
    from quorate.deployments.control.describe import describe_member

    return {m: [r["pid"] for r in describe_member(name, m)] for m in members}


def wait_for(condition, timeout_s=60.0):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to pass")


def test_the_answer_is_the_weighted_mean_of_the_members(shared):
    deployed = shared.deploy({"a": 0.25, "b": 0.75})
    with Client(deployed.http) as client:
        answer = client.infer("shared", {"x": ROWS})
        alone = client.infer("b", {"x": ROWS})
    np.testing.assert_allclose(answer.outputs["fused"], 0.25 * known(1) + 0.75 * known(-2), atol=1e-6)
    np.testing.assert_allclose(alone.outputs["probabilities"], known(-2), atol=1e-6)
    assert answer.parameters["members_used"] == "a,b"
    assert answer.parameters["revision"] == deployed.revision
    assert answer.parameters["coverage"] == 1.0
    assert answer.parameters["degraded"] is False


def test_classes_are_aligned_by_name(shared):
    with Client(shared.deploy({"reordered": 0.5, "wide": 0.5}).http) as client:
        fused = client.infer("shared", {"x": ROWS}).outputs["fused"]
    blue, red, green = known(1).T
    np.testing.assert_allclose(fused, np.stack([red / 2 + 0.25, green / 2 + 0.25, blue / 2], axis=1), atol=1e-6)


def test_two_members_are_pinned_to_two_gpus_and_halves_share_one(deploy):
    from quorate.deployments.control.describe import describe_member

    def holding(gpus):
        return member(config={"shift": 0}, resources={"num_gpus": gpus, "num_cpus": 0.1})

    members = {"a": holding(1), "b": holding(1), "c": holding(0.5), "d": holding(0.5)}
    deploy(ensemble("pinned", members, weights=dict.fromkeys(members, 0.25)))
    ids = {m: tuple(describe_member("pinned", m)[0]["gpu_ids"]) for m in members}
    assert len({ids["a"], ids["b"], ids["c"]}) == 3
    assert ids["c"] == ids["d"]
    assert all(len(held) == 1 for held in ids.values())


def test_a_killed_member_is_missing_then_replaced(shared):
    with Client(shared.deploy({"a": 0.5, "b": 0.5}).http, model="shared") as client:
        os.kill(pids("shared", ["b"])["b"][0], signal.SIGKILL)
        answers = []

        def degraded():
            answers.append(client.infer(x=ROWS))
            return answers[-1].parameters["degraded"]

        wait_for(degraded)
        answer = answers[-1]
        assert answer.parameters["members_missing"] == "b:dead"
        assert answer.parameters["coverage"] == 0.5
        np.testing.assert_allclose(answer.outputs["fused"], known(1), atol=1e-6)
        wait_for(lambda: not client.infer(x=ROWS).parameters["degraded"])


def test_a_slow_member_is_left_out_at_the_deadline(shared):
    deployed = shared.deploy({"a": 0.5, "slow": 0.5}, deadline_s=0.5)
    with Client(deployed.http, model="shared") as client:
        wait_for(lambda: client.infer(x=ROWS).parameters["degraded"] is False)
        shared.switch.write_text("3")
        answer = client.infer(x=ROWS)
        shared.switch.write_text("0")
    assert answer.parameters["members_missing"] == "slow:deadline"
    np.testing.assert_allclose(answer.outputs["fused"], known(1), atol=1e-6)


def test_no_quorum_by_the_deadline_is_a_504_that_names_the_late(shared):
    deployed = shared.deploy({"a": 0.5, "slow": 0.5}, deadline_s=0.5, quorum=2)
    with Client(deployed.http, model="shared") as client:
        wait_for(lambda: not failing(client))
    shared.switch.write_text("3")
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]}
    reply = httpx.post(f"{deployed.http}/v2/models/shared/infer", json=body)
    shared.switch.write_text("0")
    assert reply.status_code == 504
    assert "slow:deadline" in reply.json()["error"]


def failing(client):
    try:
        client.infer(x=ROWS)
    except QuorateError:
        return True
    return False


def test_a_row_that_one_member_cannot_take_costs_only_itself(shared):
    rows = np.array([[1, 2], [13, 0], [14, 0], [0.5, 3]], dtype=np.float32)
    with Client(shared.deploy({"a": 0.5, "picky": 0.5}).http, model="shared") as client:
        answer = client.infer(x=rows)
    both = 0.5 * known(1, rows) + 0.5 * known(-1, rows)
    np.testing.assert_allclose(answer.outputs["fused"][[0, 3]], both[[0, 3]], atol=1e-6)
    np.testing.assert_allclose(answer.outputs["fused"][[1, 2]], known(1, rows)[[1, 2]], atol=1e-6)
    assert answer.parameters["rows_missing"] == "picky:1 2"


def test_new_weights_go_live_without_a_restart_and_roll_back(shared):
    from quorate.deployments.control.deploy import rollback

    deployed = shared.deploy({"a": 0.5, "b": 0.5})
    before = pids("shared", shared.members)
    second = shared.deploy({"a": 0.1, "b": 0.9})
    assert second.http == deployed.http
    assert pids("shared", shared.members) == before
    with Client(deployed.http, model="shared") as client:
        answer = client.infer(x=ROWS)
        assert answer.parameters["revision"] == second.revision
        np.testing.assert_allclose(answer.outputs["fused"], 0.1 * known(1) + 0.9 * known(-2), atol=1e-6)
        rollback("shared")
        assert client.infer(x=ROWS).parameters["revision"] == deployed.revision


def test_each_rollback_goes_back_further(deploy):
    from quorate.deployments.control.deploy import rollback
    from quorate.deployments.errors import ClusterError

    specs = [ensemble("back", {"a": member(config={"shift": shift})}, weights={"a": 1.0}) for shift in (1, 2, 3)]
    deployed = [deploy(spec) for spec in specs]
    assert len({one.http for one in deployed}) == 1
    with Client(deployed[0].http, model="back") as client:
        for shift, one in ((2, deployed[1]), (1, deployed[0])):  # its member is started again
            assert rollback("back").revision == one.revision
            np.testing.assert_allclose(client.infer(x=ROWS).outputs["fused"], known(shift), atol=1e-6)
    with pytest.raises(ClusterError, match="no earlier revision"):
        rollback("back")


def test_changed_members_take_over_at_once_under_load_and_nothing_else_restarts(shared):
    """No answer mixes an old member with a new one: each is right for the revision that it names."""
    first = shared.deploy({"a": 0.5, "b": 0.5})
    right = {first.revision: 0.5 * known(1) + 0.5 * known(-2)}
    before = pids("shared", shared.members)
    shared.members["b"] = member(config={"shift": 4})
    with Traffic(first.http, "shared", {"x": ROWS}) as traffic:
        second = shared.deploy({"a": 0.25, "b": 0.75})
    right[second.revision] = 0.25 * known(1) + 0.75 * known(4)
    after = pids("shared", shared.members)
    assert after["b"] != before["b"]
    assert {**after, "b": before["b"]} == before
    assert not traffic.failures
    assert len(traffic.answers) > 100
    assert {answer.parameters["members_missing"] for answer in traffic.answers} == {""}
    for answer in traffic.answers:
        np.testing.assert_allclose(answer.outputs["fused"], right[answer.parameters["revision"]], atol=1e-6)
    assert traffic.revisions() == set(right)


def test_a_changed_member_without_room_beside_the_old_one_takes_its_place(deploy):
    big = {"resources": {"num_cpus": 0.1, "num_gpus": 3}}  # of 4
    url = deploy(ensemble("full", {"a": member(config={"shift": 1}, **big)}, weights={"a": 1.0})).http
    deploy(ensemble("full", {"a": member(config={"shift": 2}, **big)}, weights={"a": 1.0}))
    with Client(url, model="full") as client:
        np.testing.assert_allclose(client.infer(x=ROWS).outputs["fused"], known(2), atol=1e-6)


def test_a_head_that_cannot_read_its_trunk_is_refused_when_it_is_deployed(deploy):
    trunk = {**member(), "model": "torch.nn:Linear", "config": {"in_features": 2, "out_features": 5}}
    head = {**trunk, "config": {"in_features": 6, "out_features": 3}, "inputs": ["trunk"], "output": "logits"}
    spec = ensemble("narrow", {"trunk": {**trunk, "output": "features"}, "head": head}, weights={"head": 1.0})
    with pytest.raises(DeployError, match=r"does not answer an example: .*head:error"):
        deploy(spec)


def test_a_graph_is_deployed_like_any_other_ensemble_and_can_gain_a_member(deploy):
    def linear(inputs, seed, outputs, output="logits"):
        config = {"seed": seed, "outputs": outputs}
        return {**member(config=config), "model": "graph:linear", "inputs": inputs, "output": output}

    members = {"trunk": linear(["x"], 1, 8, "features"), "head": linear(["trunk"], 2, 3)}
    url = deploy(ensemble("graph", members, rule="mean", members=["head"])).http
    features = evaluate(1, 8, [ROWS])
    heads = [softmax(evaluate(seed, 3, [features]), axis=1) for seed in (2, 3)]
    with Client(url, model="graph") as client:
        np.testing.assert_allclose(client.infer(x=ROWS).outputs["fused"], heads[0], atol=1e-6)
        before = pids("graph", members)
        members["second"] = linear(["trunk"], 3, 3)
        deploy(ensemble("graph", members, rule="mean", members=["head", "second"]))
        assert {name: pids("graph", members)[name] for name in before} == before
        answer = client.infer(x=ROWS)
        np.testing.assert_allclose(answer.outputs["fused"], (heads[0] + heads[1]) / 2, atol=1e-6)
        assert answer.parameters["members_used"].split(",") == ["head", "second", "trunk"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "known:wide", "config": {"columns": 7}}, "returned [7] values a row but has 3 classes"),
        ({"model": "known:nobody"}, "known has no 'nobody'"),
        ({"model": "known:known", "config": {"shif": 1}}, "known:known failed with TypeError"),
        ({"model": "torch.nn:Linear", "config": {"in_features": 9, "out_features": 3}}, "fails on an example input"),
    ],
)
def test_a_member_that_cannot_start_says_why_in_one_sentence(deploy, change, sentence):
    spec = ensemble("broken", {"a": {**member(), **change}}, weights={"a": 1.0})
    with pytest.raises(DeployError) as error:
        deploy(spec)
    assert sentence in str(error.value)
    assert "Traceback" not in str(error.value)
