"""What changes of an ensemble leave behind, on a real cluster: all of it, or nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from quorate.deployments.errors import ConflictError, DeployError

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.array([[0.5, -1.0]], np.float32)
CODE = "import numpy as np\n\ndef make():\n    return lambda x: np.full((len(x), 1), {answer}, np.float32)\n"


def spec(name="changed", factories=("known:known", "known:known"), **fusion):
    members = {
        f"m{number}": {
            "model": factory, "config": {"shift": number} if factory == "known:known" else {}, "inputs": ["x"],
            "output": "values", "resources": {"num_cpus": 0.1},
        }
        for number, factory in enumerate(factories)
    }  # fmt: skip
    return parse_spec(
        {
            "name": name,
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": members,
            "fusion": {"rule": "mean", "deadline_s": 5.0, **fusion},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )


@pytest.fixture(scope="module")
def control(cluster):
    from quorate.deployments.control import deploy as control
    from quorate.deployments.control.describe import ensembles

    yield control
    for name in set(ensembles()) & {"changed", "another", "edited"}:
        control.delete(name)


@pytest.fixture
def deployed(control):
    return control.deploy(spec(), FACTORIES)


def serve_applications():
    from ray import serve

    return {name for name, app in serve.status().applications.items() if app.status.value != "DELETING"}


def wait_for(condition, timeout_s=60.0):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.1)


def answer(deployed, name="changed"):
    with Client(deployed.http, model=name, timeout_s=30) as client:
        return client.infer(x=ROWS)


def test_a_deployment_that_fails_leaves_what_was_before_and_nothing_else(control, deployed):
    before = serve_applications()
    broken = spec(factories=("known:known", "known:nobody"))
    with pytest.raises(DeployError, match="known has no 'nobody'"):
        control.deploy(broken, FACTORIES)
    wait_for(lambda: serve_applications() == before)
    assert answer(deployed).parameters["revision"] == deployed.revision


def test_a_revision_that_a_check_refuses_leaves_nothing_of_its_members(control, deployed):
    before, seen = serve_applications(), []

    def refuse(candidate):
        seen.append(candidate.revision)
        raise DeployError("worse than before")

    with pytest.raises(DeployError, match="worse than before"):
        control.deploy(spec(factories=("known:known", "known:known", "known:known")), FACTORIES, check=refuse)
    wait_for(lambda: serve_applications() == before)
    assert len(seen) == 1
    assert answer(deployed).parameters["revision"] == deployed.revision


def test_a_deployment_that_its_operator_interrupts_leaves_what_was_before(control, deployed, cluster):
    before = serve_applications()
    process = start_operator("import time\n\ndef make():\n    time.sleep(600)\n", cluster)
    wait_for(lambda: serve_applications() > before)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    wait_for(lambda: serve_applications() == before)


def test_what_an_operator_who_died_has_started_is_taken_away_by_the_next_command(control, deployed, cluster):
    before = serve_applications()
    process = start_operator("import time\n\ndef make():\n    time.sleep(601)\n", cluster)
    wait_for(lambda: serve_applications() > before)
    process.kill()
    process.wait(60)
    assert control.deploy(spec(), FACTORIES).revision == deployed.revision
    wait_for(lambda: serve_applications() == before)
    assert answer(deployed).parameters["members_missing"] == ""


def start_operator(code, cluster):
    """A process that deploys a member which does not come up."""
    script = textwrap.dedent(
        f"""
        import os, pathlib, signal, sys, tempfile
        import ray
        from tests.deployments.control.test_transactions import FACTORIES, spec
        from quorate.deployments.control.deploy import deploy
        ray.init(address={cluster.get_runtime_context().gcs_address!r}, log_to_driver=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell has started us behind it
        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "known.py").write_text((FACTORIES / "known.py").read_text())
        (folder / "hanging.py").write_text({code!r})
        deploy(spec(factories=("known:known", "known:known", "hanging:make")), folder)
        """
    )
    return subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3])


def test_two_deployments_at_once_end_in_one_of_the_two_and_all_of_it(control, deployed):
    specs = [spec(factories=("known:known",) * count) for count in (1, 3)]
    outcomes: list[str] = []
    refused: list[str] = []

    def deploy(wanted):
        try:
            outcomes.append(control.deploy(wanted, FACTORIES).revision)
        except ConflictError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=deploy, args=(wanted,)) for wanted in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    found = answer(deployed).parameters
    assert found["revision"] in outcomes
    assert found["members_missing"] == ""
    assert all("is being changed: a deployment by" in text for text in refused)
    assert len(serve_applications()) >= 2


def test_a_port_of_another_ensemble_is_refused_with_its_name(control, deployed):
    port = int(deployed.http.rpartition(":")[2])
    with pytest.raises(
        DeployError, match=rf"port {port} of 127\.0\.0\.1 is a door of ensemble 'changed'; give another"
    ):
        control.deploy(spec("another"), FACTORIES, http_port=port)
    assert not [name for name in serve_applications() if name.startswith("another")]


def test_a_port_that_cannot_be_had_is_refused_before_the_old_doors_close(control, deployed):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeployError, match=rf"port {port} of 127\.0\.0\.1 cannot be had on node"):
            control.deploy(spec(), FACTORIES, http_port=port)
    assert answer(deployed).parameters["revision"] == deployed.revision


class Theirs:
    """A deployment that is none of ours."""


def test_other_peoples_applications_are_no_ensembles_and_stay(control, cluster):
    from ray import serve

    from quorate.deployments.control.describe import ensembles

    theirs: Any = serve.deployment(ray_actor_options={"num_cpus": 0.1})(Theirs)
    serve.run(theirs.bind(), name="theirs", route_prefix=None)
    try:
        one = control.deploy(spec("another", ("known:known",)), FACTORIES)
        assert "theirs" not in ensembles()
        assert one.name in ensembles()
        control.delete("another")
        assert "theirs" in serve_applications()
    finally:
        serve.delete("theirs")


def test_edited_code_answers_after_it_is_deployed_and_a_rollback_brings_back_what_was(control, tmp_path):
    edited = spec("edited", ("edited_model:make",))
    revisions = []
    for value in (1.0, 2.0):
        (tmp_path / "edited_model.py").write_text(CODE.format(answer=value))
        found = control.deploy(edited, tmp_path)
        revisions.append(found.revision)
        assert answer(found, "edited").outputs["fused"].tolist() == [[value]]
    assert len(set(revisions)) == 2
    (tmp_path / "edited_model.py").write_text("nothing is left")
    control.rollback("edited")
    reply = answer(found, "edited")
    assert reply.outputs["fused"].tolist() == [[1.0]]
    assert reply.parameters["revision"] == revisions[0]


def test_a_killed_controller_takes_no_answer_away(control, deployed, cluster):
    from quorate.deployments.control.describe import describe_fusion

    (before,) = describe_fusion("changed")
    controller = cluster.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    cluster.kill(controller, no_restart=False)
    until, failed = time.monotonic() + 15, []
    while time.monotonic() < until:
        try:
            answer(deployed)
        except Exception as error:
            failed.append(error)
        time.sleep(0.05)
    assert not failed
    wait_for(lambda: [found["pid"] for found in describe_fusion("changed")] == [before["pid"]])
    assert os.path.exists(f"/proc/{before['pid']}")
