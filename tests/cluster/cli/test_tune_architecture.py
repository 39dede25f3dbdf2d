"""`quorate tune --search architecture` and `--resume`, in this process so that they share the session's cluster."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from quorate.cluster.cli.main import app
from quorate.deployments import load_spec, save_spec


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("architecture search")
    (folder / "artifacts").symlink_to(tiny.folder / "artifacts")
    save_spec(tiny.spec, folder / "tiny.yaml")
    rows = tiny.splits.test
    np.savez(folder / "rows.npz", label=rows.labels, **rows.inputs)
    return folder


def quorate(place, *words):
    done = CliRunner().invoke(app, ["tune", *map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_searches_and_goes_on_where_it_was_cut_off(cluster, place):
    rows = ["--data", place / "rows.npz", "--runs", place / "my runs"]
    small = [
        "--trials",
        6,
        "--member-trials",
        0,
        "--workers",
        1,
        "--objective",
        "log_loss",
        "--objective",
        "memory_bytes",
    ]
    found = quorate(place, place / "tiny.yaml", *rows, "--search", "architecture", *small)
    assert (found["trials"], found["failed"], found["complete"]) == (6, 0, True)
    assert load_spec(place / found["spec"]).name == "tiny"
    trials = sorted((place / found["run"] / "trials" / "structures").glob("*.json"))
    trials[4].unlink()
    kept = {path: path.stat().st_mtime_ns for path in trials if path.exists()}
    again = quorate(place, "--resume", found["run"])
    assert [pick["values"]["log_loss"] for pick in again["pareto"]] == [
        p["values"]["log_loss"] for p in found["pareto"]
    ]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert trials[4].exists()


def test_no_spec_is_needed_and_the_search_is_taken_up_without_one(cluster, place):
    rows = ["--data", place / "rows.npz", "--runs", place / "without", "--workers", 1]
    few = ["--trials", 2, "--member-trials", 2, "--epochs", 1, "--objective", "log_loss"]
    found = quorate(place, *rows, "--search", "architecture", *few)
    assert (found["member_trials"], found["members_failed"], found["complete"]) == (2, 0, True)
    spec = load_spec(place / found["spec"])
    assert (spec.inputs["image"].shape, spec.classes) == ((1, 8, 8), tuple("0123456789"))
    again = quorate(place, "--resume", found["run"])
    assert [pick["values"]["log_loss"] for pick in again["pareto"]] == [
        p["values"]["log_loss"] for p in found["pareto"]
    ]
