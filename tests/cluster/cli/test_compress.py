"""`quorate compress` and `quorate tune --train` on two perceptrons of real digits, in this process for its cluster."""

import json
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from quorate.cluster.cli.main import app
from quorate.deployments import load_spec, parse_spec, save_spec
from quorate.tuning import Training, digits, save_weights, train
from tests.cluster.support.command_line import Shell

pytestmark = pytest.mark.usefixtures("cluster", "_in_folder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compress")
    splits, members = digits(), {}
    for name, width in (("narrow", 12), ("wide", 32)):
        config = {"family": "mlp", "width": width, "depth": 1, "image": [1, 8, 8], "classes": 10}
        trained = train(config, splits.train, splits.validation, Training(epochs=4, seed=width))
        save_weights(trained.model, folder / f"{name}.safetensors")
        members[name] = {
            "model": "quorate.tuning.architectures:build",
            "config": config,
            "weights": f"{name}.safetensors",
            "inputs": ["image"],
        }
    inputs = {"image": {"datatype": "FP32", "shape": [1, 8, 8]}}
    words = {"name": "two", "inputs": inputs, "classes": list("0123456789"), "members": members}
    save_spec(parse_spec({**words, "fusion": {"rule": "mean"}}), folder / "two.yaml")
    save_rows(folder / "train.npz", splits.train)
    save_rows(folder / "other.npz", splits.validation)
    return folder


def save_rows(path, rows):
    arrays: dict[str, Any] = {"label": rows.labels, **rows.inputs}
    np.savez(path, **arrays)


@pytest.fixture
def _in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def quorate(*arguments, code=0):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done.output if code else done.stdout.splitlines()[-1]


def test_compress_leaves_a_deployable_student_and_says_what_it_loses(folder):
    options = ["--train", "train.npz", "--data", "other.npz", "--student", "mlp", "--width", "8", "--epochs", "3"]
    report = json.loads(quorate("compress", "two.yaml", *options, "--tolerance", "9", "--json"))
    assert report["pick"] == "student"
    spec = load_spec(folder / report["spec"])
    assert list(spec.members) == ["student"]
    assert spec.name == "two"
    lost = report["candidates"]["student"]["log_loss_lost"]
    assert lost["low"] <= lost["difference"] <= lost["high"]
    quorate("validate", report["spec"])


def test_tune_solves_on_training_rows_out_of_fold_and_judges_on_all_others(folder):
    options = ["--train", "train.npz", "--data", "other.npz", "--folds", "3", "--epochs", "3", "--json"]
    report = json.loads(quorate("tune", "two.yaml", *options))
    assert report["rows"] == 360
    manifest = json.loads((folder / report["spec"]).parent.joinpath("predictions/validation/manifest.json").read_text())
    entry = manifest["members"]["wide"]
    assert entry["rows"] == 1077
    assert entry["out_of_fold"].startswith("OutOfFold(folds=3")
    refused = quorate("tune", "two.yaml", *options, "--search", "architecture", code=2)
    assert "are for --search weights" in refused


def test_tune_for_accuracy_writes_what_decides(folder):
    options = ["--data", "other.npz", "--metric", "accuracy", "--json"]
    report = json.loads(quorate("tune", "two.yaml", *options))
    assert report["metric"] == "accuracy"
    assert "decisions" in report["alternatives"]
    for spec in (folder / report["spec"]).parent.glob("spec*.yaml"):
        quorate("validate", str(spec))
    (folder / "costs.csv").write_text("true,0,1\n0,0,1\n")
    refused = Shell(folder).run("tune", "two.yaml", "--data", "other.npz", "--costs", "costs.csv", code=1)
    assert "costs.csv has no class '2'" in refused or "costs: costs.csv" in refused
