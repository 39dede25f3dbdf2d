"""Runs of tune, train, compress and sweep from a machine that is no node: rows go there, the run comes here."""

import json
from typing import Any

import numpy as np
import pytest

from quorate.deployments import load_spec, parse_spec, save_spec
from quorate.tuning import Training, digits, save_weights, train
from tests.cluster.three_nodes.cluster import ThreeNodes, interrupt
from tests.cluster.three_nodes.machine import DISK, wait_for, why_not

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    if problem := why_not():
        pytest.skip(problem)
    with ThreeNodes(tmp_path_factory.mktemp("tuning_from_anywhere"), dashboard=True) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def operator(nodes):
    """A machine with two trained members and labelled rows on its disk, in the folder ``two``."""
    machine = nodes.operator()
    folder, splits, members = machine.disk / "two", digits(), {}
    folder.mkdir()
    for name, width in (("narrow", 12), ("wide", 32)):
        config = {"family": "mlp", "width": width, "depth": 1, "image": [1, 8, 8], "classes": 10}
        trained = train(config, splits.train, splits.validation, Training(epochs=2, seed=width))
        save_weights(trained.model, folder / f"{name}.safetensors")
        model = {"model": "quorate.tuning.architectures:build", "config": config, "inputs": ["image"]}
        members[name] = {**model, "weights": f"{name}.safetensors"}
    inputs = {"image": {"datatype": "FP32", "shape": [1, 8, 8]}}
    words = {"name": "two", "inputs": inputs, "classes": list("0123456789"), "members": members}
    save_spec(parse_spec({**words, "fusion": {"rule": "mean"}}), folder / "two.yaml")
    for name, rows in (("train", splits.train), ("other", splits.validation), ("last", splits.test)):
        arrays: dict[str, Any] = {"label": rows.labels, **rows.inputs}
        np.savez(folder / f"{name}.npz", **arrays)
    return machine


@pytest.fixture
def run(nodes, operator):
    """Runs a command there; returns what it printed as JSON, and its run's folder as this process sees it."""

    def run(*words):
        process = nodes.quorate_from(operator, *words, "--json")
        printed, errors = process.communicate(timeout=280)
        assert process.returncode == 0, printed + errors
        report = json.loads(printed)
        assert report["spec"].startswith(f"{DISK}/runs/"), report["spec"]
        return report, here(operator, report["spec"]).parent

    return run


def here(operator, path):
    return operator.disk / path.removeprefix(f"{DISK}/")


SPEC, ROWS, RUNS = f"{DISK}/two/two.yaml", f"{DISK}/two/other.npz", ("--runs", f"{DISK}/runs")


def test_tune_brings_a_run_that_deploys(nodes, operator, run):
    report, folder = run("tune", SPEC, "--data", ROWS, *RUNS)
    assert report["recommended"] in report["alternatives"]
    assert json.loads((folder / "report.json").read_text())["recommended"] == report["recommended"]
    assert load_spec(folder / "spec.yaml").name == "two"
    assert list(folder.rglob("*.arrow"))  # what members predicted
    assert not list(nodes.folder.glob("node*/ray/session_*/quorate/runs/*"))
    assert not list(nodes.folder.glob("node*/ray/session_*/logs/*-runs.zip"))
    process = nodes.quorate_from(operator, "deploy", report["spec"], "--host", "0.0.0.0", "--insecure", "--json")
    printed, errors = process.communicate(timeout=280)
    assert process.returncode == 0, printed + errors
    nodes.quorate_from(operator, "down", "two").communicate(timeout=120)


def test_compress_and_train_bring_theirs(run):
    asked = ("--train", f"{DISK}/two/train.npz", "--data", ROWS, *RUNS)
    report, folder = run(
        "compress", SPEC, *asked, "--student", "mlp", "--width", "8", "--epochs", "2", "--tolerance", "9"
    )
    assert report["pick"] == "student"
    assert list(load_spec(folder / "spec.yaml").members) == ["student"]
    report, folder = run("train", SPEC, "--what", "all", "--epochs", "2", *asked)
    assert report["trained"] == ["narrow", "wide"]
    assert load_spec(folder / "spec.yaml").name == "two"


SWEEP = ("tune", "--data", ROWS, "--search", "architecture", "--objective", "log_loss", *RUNS)


def test_a_search_trains_on_the_nodes_that_see_its_folder_and_is_taken_up_after_ctrl_c(nodes, operator, run):
    long = ("--trials", "4", "--member-trials", "3", "--epochs", "400", "--workers", "1")
    process = nodes.quorate_from(operator, *SWEEP, *long, "--json")
    trials = "node*/ray/session_*/quorate/runs/*/*/trials/members/*.json"
    wait_for(lambda: list(nodes.folder.glob(trials)), "a member is trained", 240)
    interrupt(process)
    process.communicate(timeout=120)
    assert process.returncode == 130
    (folder,) = {path.parent for path in (operator.disk / "runs").glob("*/sweep.json")}
    before = {path.name: path.read_text() for path in (folder / "trials" / "members").glob("*.json")}
    assert before
    report, found = run("tune", "--resume", f"{DISK}/runs/{folder.name}")
    assert found.parents[1] == folder
    assert (report["complete"], report["member_trials"]) == (True, 3)
    assert {name: (folder / "trials" / "members" / name).read_text() for name in before} == before


def test_a_mistake_in_the_rows_is_told_as_it_would_be_here(nodes, operator):
    (operator.disk / "two" / "bad.csv").write_text("image,label\n1,7\n")
    process = nodes.quorate_from(operator, "tune", SPEC, "--data", f"{DISK}/two/bad.csv")
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 1, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: "), errors
    assert "bad.csv" in last
    assert "ray" not in last
