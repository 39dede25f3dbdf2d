"""Members that share a process, or run inside of the doors, on a cluster: placed when they are deployed."""

import json
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from quorate.deployments.errors import MemberLoadError
from tests.deployments.control.test_transactions import serve_applications, wait_for
from tests.deployments.support.factories import oracle
from tests.deployments.support.member_processes import ensemble

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.array([[0.5, -1.0]], np.float32)
CPUS = {"num_cpus": 0.1}


def spec(b=2, model="known:known", **placed):
    def member(model, shift):
        # with a limit a member is never inside
        limit = {"max_memory_bytes": 1 << 36} if "together" in placed else {}
        return {
            "model": model, "inputs": ["x"], "output": "values", "resources": CPUS, "config": {"shift": shift}, **limit,
        }  # fmt: skip

    return parse_spec(
        {
            "name": "near",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {"a": member("known:known", 1), "b": member(model, b), "c": member("known:known", 3)},
            "fusion": {"rule": "mean", "deadline_s": 5.0},
            "serving": {"resources": CPUS},
            **placed,
        }
    )


@pytest.fixture
def control(cluster):
    from quorate.deployments.control import deploy as control
    from quorate.deployments.control.describe import ensembles

    yield control
    for name in set(ensembles()) & {"near", "oracle"}:
        control.delete(name)


def known(shift):
    row = ROWS[0]
    scores = np.array([row[0] + shift, row[1] - shift, row[0] * row[1]])
    return np.exp(scores) / np.exp(scores).sum()


def assert_answers(deployed, *shifts):
    with Client(deployed.http, model=deployed.name, timeout_s=30) as client:
        found = client.infer(x=ROWS)
    assert (found.parameters["members_used"], found.parameters["members_missing"]) == ("a,b,c", "")
    np.testing.assert_allclose(found.outputs["fused"][0], np.mean([known(s) for s in shifts], axis=0), atol=1e-6)


def record():
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    return Registry(ClusterStore()).latest("near")


def pids():
    from quorate.deployments.control.describe import describe_members

    return {name: [replica["pid"] for replica in found] for name, found in describe_members("near").items()}


def door_pids():
    from quorate.deployments.control.describe import describe_fusion

    return [replica["pid"] for replica in describe_fusion("near")]


def test_short_members_move_into_the_doors_and_out_again_and_nothing_restarts_without_need(control):
    assert_answers(control.deploy(spec(), FACTORIES), 1, 2, 3)
    doors, apart = door_pids(), pids()
    inside = control.deploy(spec(placement="together"), FACTORIES)
    assert_answers(inside, 1, 2, 3)
    assert door_pids() == doors
    assert pids() == dict.fromkeys("abc", doors)
    assert inside.members == dict.fromkeys("abc", 1)
    assert {app.split(".")[1][0] for app in serve_applications() if app.startswith("near.")} == {"@"}

    before = record()
    [planned] = [app for app in control.plan(spec(placement="together"), FACTORIES) if app.part == "a, b, c"]
    assert planned.action == "stays"
    assert "takes the doors of its node with it" in planned.why
    control.deploy(spec(placement="together"), FACTORIES)
    assert record() == before  # what was measured, too
    changed = control.deploy(spec(b=5, placement="together"), FACTORIES)
    assert_answers(changed, 1, 5, 3)
    assert record().live.measured.members["a"] == before.live.measured.members["a"]
    with pytest.raises(MemberLoadError, match="no_such"):
        control.deploy(spec(model="known:no_such", placement="together"), FACTORIES)
    assert_answers(changed, 1, 5, 3)

    control.rollback("near")
    assert_answers(inside, 1, 2, 3)
    assert door_pids() == doors
    assert_answers(control.deploy(spec(), FACTORIES), 1, 2, 3)
    assert pids().keys() == apart.keys()
    assert doors[0] not in {pid for found in pids().values() for pid in found}


def test_a_group_is_one_replica_of_one_application_and_a_change_of_one_member_restarts_it(control):
    assert_answers(control.deploy(spec(together=[["a", "b"]]), FACTORIES), 1, 2, 3)
    first = pids()
    assert first["a"] == first["b"] != first["c"]
    [planned] = [app for app in control.plan(spec(b=7, together=[["a", "b"]]), FACTORIES) if app.part == "a, b"]
    assert planned.why == (
        "changed: b: config; one message and one process instead of 2; a crash of one costs all of them"
    )
    assert_answers(control.deploy(spec(b=7, together=[["a", "b"]]), FACTORIES), 1, 7, 3)
    assert pids()["a"] != first["a"]
    assert pids()["c"] == first["c"]


@pytest.mark.slow
def test_a_row_that_ends_the_doors_twice_has_its_member_kept_out(control):
    wanted = ensemble(deadline_s=2.0).model_dump(mode="json") | {"placement": "together"}
    deployed = control.deploy(parse_spec(wanted), FACTORIES)
    url = f"{deployed.http}/v2/models/oracle/infer"

    def ask(*numbers):
        tensor = {"name": "row", "datatype": "INT64", "shape": [1, 3], "data": list(numbers)}
        reply = httpx.post(url, content=json.dumps({"inputs": [tensor]}), timeout=5)
        return reply.json()["parameters"]["members_missing"] if reply.status_code == 200 else reply.text

    def answers():
        try:
            return "error" not in ask(1, oracle.NONE, 0)
        except httpx.HTTPError:
            return False

    for _ in range(2):
        wait_for(answers, 60)
        with pytest.raises(httpx.HTTPError):
            ask(7, oracle.DIE, 1)
    wait_for(answers, 60)
    for _ in range(5):
        assert ask(7, oracle.DIE, 1) == "a:dead"
        time.sleep(0.1)
