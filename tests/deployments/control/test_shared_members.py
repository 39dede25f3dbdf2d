"""A member that several ensembles share runs once, for as long as one of them needs it."""

import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from quorate.deployments.errors import DeployError
from tests.deployments.control.test_transactions import serve_applications, wait_for

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.array([[0.5, -1.0]], np.float32)


def spec(name, common=0, own=1, model="known:known", num_gpus=0):
    def member(model, **rest):
        return {"model": model, "inputs": ["x"], "output": "values", "resources": {"num_cpus": 0.1}, **rest}

    return parse_spec(
        {
            "name": name,
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {
                "common": member(
                    "known:known",
                    config={"shift": common},
                    share=True,
                    resources={"num_cpus": 0.1, "num_gpus": num_gpus},
                ),
                "own": member(model, config={"shift": own}),
            },
            "fusion": {"rule": "mean", "deadline_s": 5.0},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )


@pytest.fixture
def control(cluster):
    from quorate.deployments.control import deploy as control
    from quorate.deployments.control.describe import ensembles

    yield control
    for name in set(ensembles()) & {"first", "second"}:
        control.delete(name)
    wait_for(lambda: shared() == set())


def shared():
    return {name for name in serve_applications() if name.startswith("@shared.")}


def pids(ensemble):
    from quorate.deployments.control.describe import describe_members

    return {name: [replica["pid"] for replica in found] for name, found in describe_members(ensemble).items()}


def answer(deployed):
    with Client(deployed.http, model=deployed.name, timeout_s=30) as client:
        found = client.infer(x=ROWS)
    assert found.parameters["members_missing"] == ""
    return found.outputs["fused"]


def known(shift):
    row = ROWS[0]
    scores = np.array([row[0] + shift, row[1] - shift, row[0] * row[1]])
    return np.exp(scores) / np.exp(scores).sum()


def test_two_ensembles_share_a_member_and_taking_one_down_leaves_the_other_whole(control, tmp_path):
    from quorate.deployments.control.ray_private import kept_root

    shutil.copy(FACTORIES / "known.py", tmp_path)
    first = control.deploy(spec("first", own=1), tmp_path)
    (app,) = shared()
    second = control.deploy(spec("second", own=2), FACTORIES)
    assert shared() == {app}
    assert pids("first")["common"] == pids("second")["common"]
    assert pids("first")["own"] != pids("second")["own"]
    for deployed, own in ((first, 1), (second, 2)):
        np.testing.assert_allclose(answer(deployed)[0], (known(0) + known(own)) / 2, atol=1e-6)
    before = pids("second")
    shutil.rmtree(tmp_path)
    control.delete("first")
    assert (kept_root() / app / "known.py").exists()
    assert pids("second") == before
    np.testing.assert_allclose(answer(second)[0], (known(0) + known(2)) / 2, atol=1e-6)
    control.delete("second")
    wait_for(lambda: shared() == set())
    assert not (kept_root() / app).exists()


def test_an_ensemble_that_changes_its_shared_member_gets_another(control):
    first = control.deploy(spec("first"), FACTORIES)
    second = control.deploy(spec("second"), FACTORIES)
    before = pids("first")
    control.deploy(spec("second", common=3), FACTORIES)
    assert len(shared()) == 2
    assert pids("first") == before
    np.testing.assert_allclose(answer(first)[0], (known(0) + known(1)) / 2, atol=1e-6)
    np.testing.assert_allclose(answer(second)[0], (known(3) + known(1)) / 2, atol=1e-6)
    control.rollback("second")
    wait_for(lambda: len(shared()) == 1)
    assert pids("second")["common"] == before["common"]


def test_a_deployment_that_fails_lets_go_of_what_it_has_shared(control):
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.claims import Claims

    first = control.deploy(spec("first"), FACTORIES)
    before = pids("first")
    with pytest.raises(DeployError):
        control.deploy(spec("second", model="known:nothing"), FACTORIES)
    with pytest.raises(DeployError):
        control.deploy(spec("second", common=7, model="known:nothing"), FACTORIES)
    wait_for(lambda: len(shared()) == 1)
    assert Claims(ClusterStore()).of("second") == set()
    assert pids("first") == before
    answer(first)


def test_a_shared_member_that_others_need_makes_no_room_for_the_one_that_follows_it(control):
    first = control.deploy(spec("first", num_gpus=3), FACTORIES)
    control.deploy(spec("second", num_gpus=3), FACTORIES)
    before = pids("first")
    with pytest.raises(DeployError, match="no place for common"):
        control.deploy(spec("first", common=1, num_gpus=3), FACTORIES, timeout_s=20)
    control.delete("second")
    assert pids("first") == before
    answer(first)
    control.deploy(spec("first", common=1, num_gpus=3), FACTORIES)
    np.testing.assert_allclose(answer(first)[0], known(1), atol=1e-6)
    assert len(shared()) == 1


def test_two_ensembles_deployed_at_once_start_what_they_share_once(control):
    deployed: dict[str, Any] = {}

    def deploy(name):
        deployed[name] = control.deploy(spec(name), FACTORIES)

    threads = [threading.Thread(target=deploy, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shared()) == 1
    assert len(pids("first")["common"]) == 1
    assert pids("first")["common"] == pids("second")["common"]
    for found in deployed.values():
        answer(found)


def test_the_plan_says_what_another_ensemble_runs_already(control):
    def planned():
        return {app.part: (app.action, app.why) for app in control.plan(spec("second"), FACTORIES)}

    assert planned()["common"] == ("starts", "")
    control.deploy(spec("first"), FACTORIES)
    assert planned()["common"] == ("stays", "shared")
    assert planned()["own"] == ("starts", "")


def test_each_ensemble_keeps_its_own_accounts_of_a_shared_member(control):
    first = control.deploy(spec("first"), FACTORIES)
    second = control.deploy(spec("second"), FACTORIES)
    before = replies(first), replies(second)
    for _ in range(5):
        answer(first)
    answer(second)
    assert (replies(first) - before[0], replies(second) - before[1]) == (5, 1)


def replies(deployed):
    lines = httpx.get(f"{deployed.http}/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("quorate_member_replies_total{") and 'member="common"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)
