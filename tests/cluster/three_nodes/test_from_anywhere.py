"""A machine that is no node, with nothing but the bare package, and the Jobs address of a cluster."""

import json
import shutil

import pytest

from tests.cluster.three_nodes.cluster import PLACES, ThreeNodes, interrupt
from tests.cluster.three_nodes.machine import DISK, address, wait_for, why_not
from tests.cluster.three_nodes.oracle import WEIGHTS
from tests.cluster.three_nodes.travelling import Travelling

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SECRET, TOKEN = "canary-0dd5c0ffee42", "canary-token-0123456789abcdef0123456789abcdef"
# What Ray's dashboard shows, and has for who asks for more.
SHOWN = (
    "/", "/api/serve/applications/", "/api/jobs/", "/api/cluster_status", "/nodes?view=summary", "/nodes?view=details",
    "/logical/actors", "/api/component_activities", "/events", "/api/v0/nodes?detail=true",
    *(f"/api/v0/{what}?detail=true&limit=1000" for what in ("actors", "tasks", "workers", "jobs", "runtime_envs")),
    "/api/v0/placement_groups", "/api/v0/cluster_events", "/api/v0/tasks/summarize", "/api/prometheus/sd", "/metrics",
)  # fmt: skip


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """A cluster of three nodes with a dashboard."""
    problem = why_not()
    if problem:
        pytest.skip(problem)
    env = dict.fromkeys(("DATABASE_PASSWORD", "AWS_SECRET_ACCESS_KEY"), SECRET)
    with ThreeNodes(tmp_path_factory.mktemp("from_anywhere"), env, dashboard=True) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def operator(nodes):
    return nodes.operator()


def said(process, timeout_s=240):
    """What a command printed, once it has ended well."""
    printed, errors = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, printed + errors
    return printed


def test_an_operator_deploys_deletes_the_folder_and_all_comes_back_when_nodes_die(nodes, operator, seed):
    found = Travelling(operator, "travels")
    (operator.disk / "travels" / "spec.json").write_text(json.dumps(found.spec()))
    doors = ("--host", "0.0.0.0", "--insecure", "--json")
    deployed = json.loads(said(nodes.quorate_from(operator, "deploy", f"{found.folder}/spec.json", *doors)))
    found.delete()
    assert found.copies(nodes.nodes) == set(PLACES)
    assert not operator.pids("raylet")
    with nodes.asking(deployed, "travels", {deployed["revision"]: WEIGHTS}, seed) as asking:
        for place in (2, 3):
            nodes.switch_off(place)
            shutil.rmtree(nodes.nodes[place].disk / "ray")  # another disk
            nodes.switch_on(place)
            wait_for(lambda place=place: nodes.driver().do("nodes").get(address(place)), "it is back", 120)
            asking.all_is_well()
    asking.report.assert_safe()
    status = json.loads(said(nodes.quorate_from(operator, "status", "--json")))
    assert [ensemble["name"] for ensemble in status["ensembles"]] == ["travels"]
    assert said(nodes.quorate_from(operator, "down")).split() == ["stopped", "travels"]


def test_ctrl_c_ends_the_command_there_too_and_leaves_nothing(nodes, operator):
    found = Travelling(operator, "stopped")
    (operator.disk / "stopped" / "spec.json").write_text(json.dumps(found.spec(loading_s=600)))
    process = nodes.quorate_from(operator, "deploy", f"{found.folder}/spec.json")
    wait_for(lambda: "DEPLOYING" in nodes.driver().do("applications").values(), "it starts", 120)
    interrupt(process)
    process.communicate(timeout=120)
    assert process.returncode == 130
    wait_for(lambda: not nodes.driver().do("applications"), "nothing of it runs", 120)
    assert nodes.driver().do("ensembles") == []
    assert not nodes.nodes[1].pids("cli.in_job")  # the job's process


def test_a_mistake_is_told_as_on_a_node_and_nothing_is_sent_for_it(nodes, operator):
    found = Travelling(operator, "mistaken")
    spec = found.spec()
    (operator.disk / "mistaken" / "spec.json").write_text(json.dumps({**spec, "fusion": {"rule": "meen"}}))
    wrong = nodes.quorate_from(operator, "deploy", f"{found.folder}/spec.json")
    assert "did you mean 'mean'" in wrong.communicate(timeout=60)[1]
    spec["members"]["a"]["config"]["digest"] = "another"
    (operator.disk / "mistaken" / "spec.json").write_text(json.dumps(spec))
    wrong = nodes.quorate_from(operator, "deploy", f"{found.folder}/spec.json")
    errors = wrong.communicate(timeout=240)[1]
    assert (wrong.returncode, "members.a: " in errors, "AssertionError" in errors) == (1, True, True), errors


def test_the_dashboard_shows_no_token_no_secret_of_a_request_and_none_of_the_environment(nodes, operator):
    found = Travelling(operator, "kept")
    (operator.disk / "kept" / "spec.json").write_text(json.dumps(found.spec()))
    tokens = operator.disk / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(TOKEN)
    doors = ("--host", "0.0.0.0", "--auth-token-file", f"{DISK}/tokens", "--json")
    deployed = json.loads(said(nodes.quorate_from(operator, "deploy", f"{found.folder}/spec.json", *doors)))
    port = deployed["http"].rpartition(":")[2]
    item = {"name": "row", "datatype": "INT64", "shape": [1, 3], "data": [1, 0, 0]}
    for inputs in ([item], [{**item, "name": SECRET}]):
        body = json.dumps({"id": SECRET, "inputs": inputs, "parameters": {SECRET: SECRET}})
        for token in (TOKEN, SECRET):
            headers = ("-H", f"Authorization: Bearer {token}", "-H", f"X-Api-Key: {SECRET}")
            nodes.outside.run("curl", "-s", *headers, "-d", body, f"http://{address(2)}:{port}/v2/models/kept/infer")
    shown = {path: nodes.outside.run("curl", "-s", f"http://{address(1)}:8265{path}") for path in SHOWN}
    print({path: len(text) for path, text in shown.items()})
    assert "kept.@" in shown["/api/serve/applications/"]
    assert len([text for text in shown.values() if len(text) > 100]) > len(SHOWN) / 2
    assert [path for path, text in shown.items() if SECRET in text or TOKEN in text] == []
    assert said(nodes.quorate_from(operator, "down")).split() == ["stopped", "kept"]


def test_nodes_without_quorate_have_the_operators(tmp_path_factory):
    problem = why_not()
    if problem:
        pytest.skip(problem)
    hiding = tmp_path_factory.mktemp("hiding")
    (hiding / "sitecustomize.py").write_text(
        "import sys\nsys.path[:] = [place for place in sys.path if '__editable__' not in place]\n"
    )
    folder, env = tmp_path_factory.mktemp("bare"), {"PYTHONPATH": str(hiding)}
    with ThreeNodes(folder, env, dashboard=True, start_folder=folder) as nodes:
        operator = nodes.operator()
        found = Travelling(operator, "travels")
        (operator.disk / "travels" / "spec.json").write_text(json.dumps(found.spec()))
        words = ("deploy", f"{found.folder}/spec.json", "--host", "0.0.0.0", "--insecure", "--json")
        deployed = json.loads(said(nodes.quorate_from(operator, *words, PYTHONPATH="")))
        with nodes.asking(deployed, "travels", {deployed["revision"]: WEIGHTS}, 1, env={"PYTHONPATH": ""}) as asking:
            asking.all_is_well()
        asking.report.assert_safe()
