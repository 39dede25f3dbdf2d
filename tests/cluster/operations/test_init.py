"""A first spec for the models of a folder is valid, and answers what the models answer."""

import json

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from quorate.cluster.operations.models.init import init
from quorate.cluster.operations.try_spec import try_spec
from quorate.cluster.operations.validate import validate
from quorate.deployments import load_spec
from quorate.fusion.errors import QuorateError

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x):
        return self.layers(x)
"""
ROWS = np.random.default_rng(5).normal(size=(40, 4)).astype(np.float32)


def exported(path, model):
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    exported(tmp_path / "exported.pt2", nn.Linear(4, 3).eval())
    layers = nn.ModuleDict({"layers": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))})
    save_file(layers.state_dict(), tmp_path / "own.safetensors")
    (tmp_path / "network.py").write_text(CODE)
    (tmp_path / "README.txt").write_text("no model")
    (tmp_path / "notes.json").write_text("{}")
    return tmp_path


@pytest.fixture
def table(folder):
    path = folder / "data" / "rows.csv"
    path.parent.mkdir()
    lines = [",".join([*map(str, row), ("cat", "dog", "bird")[at % 3]]) for at, row in enumerate(ROWS.tolist())]
    path.write_text("\n".join(["a,b,c,d,animal", *lines]) + "\n")
    return path


CONFIG = {"own": {"width": 8}}


def test_files_and_weights_become_members_of_a_spec_that_is_valid_and_answers(folder, table):
    done = init(folder, table, label="animal", configs=CONFIG, name="zoo")
    spec = load_spec(done.path)
    assert (spec.name, spec.classes) == ("zoo", ("bird", "cat", "dog"))
    assert {name: (m.model, m.weights, m.output) for name, m in spec.members.items()} == {
        "exported": ("exported.pt2", None, "logits"),
        "own": ("network:Net", "own.safetensors", "logits"),
    }
    assert spec.inputs["x"].shape == (4,)
    assert done.columns == {"x": "a,b,c,d"}
    assert validate(done.path).name == "zoo"
    tried = try_spec(done.path, table, columns=done.columns)
    torch.manual_seed(0)
    by_hand = nn.Linear(4, 3).eval()(torch.from_numpy(ROWS)).softmax(dim=1)
    alone = try_spec(done.path, table, columns=done.columns, member="exported")
    np.testing.assert_allclose(
        torch.from_numpy(next(iter(alone.outputs.values()))).softmax(dim=1), by_hand.detach(), rtol=1e-5
    )
    assert tried.outputs["fused"].shape == (40, 3)


def test_without_data_a_file_that_says_what_it_reads_is_enough_but_for_its_classes(folder):
    (folder / "own.safetensors").unlink()
    (folder / "exported.pt2").rename(folder / "only.pt2")
    with pytest.raises(QuorateError, match=r"member only gives 3 numbers a row, and nobody .*; say --classes A,B"):
        init(folder)
    done = init(folder, classes=["low", "mid", "high"])
    assert done.inputs == {"input": "FP32[4]"}
    assert load_spec(done.path).classes == ("low", "mid", "high")


def test_a_regression_gives_values(folder):
    for name in ("own.safetensors", "exported.pt2"):
        (folder / name).unlink()
    exported(folder / "price.pt2", nn.Linear(4, 1).eval())
    np.savez(folder / "rows.npz", x=ROWS, label=ROWS.sum(axis=1))
    done = init(folder, folder / "rows.npz")
    spec = load_spec(done.path)
    assert (spec.classes, spec.members["price"].output, dict(done.inputs)) == (None, "values", {"x": "FP32[4]"})


def test_boosters_read_the_columns_of_a_table_under_names_that_inputs_may_have(tmp_path):
    pytest.importorskip("catboost")
    from tests.deployments.support.boosters import save_models
    from tests.deployments.support.patients import patients

    models, (frame, diagnoses) = save_models(tmp_path), patients()
    frame.assign(diagnosis=diagnoses).to_csv(tmp_path / "patients.csv", index=False)
    done = init(tmp_path, tmp_path / "patients.csv", label="diagnosis", name="patients")
    assert done.classes == ("benign", "malignant")
    assert list(load_spec(done.path).inputs) == ["mean_radius", "area_error", "size", "points"]
    assert (done.columns, "--column" in repr(done)) == ({}, False)
    tried = try_spec(done.path, frame)
    mean = np.mean([probabilities for _, probabilities in models.values()], axis=0)
    np.testing.assert_allclose(tried.outputs["fused"], mean, atol=1e-5)


def test_a_folder_of_hugging_face_reads_the_column_of_text(tmp_path):
    pytest.importorskip("transformers")
    from tests.deployments.support.huggingface_folders import bert

    bert(tmp_path / "tiny")
    (tmp_path / "reviews.csv").write_text("id,text,label\n1,a fine film,pos\n2,dull,neg\n")
    done = init(tmp_path, tmp_path / "reviews.csv", name="reviews")
    assert (done.inputs, done.classes) == ({"text": "BYTES[]"}, ("neg", "pos"))
    assert dict(done.members["tiny"]) == {"model": "hf:tiny", "inputs": ("text",), "output": "logits"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "member own.* could not be|members.own: network:Net failed with TypeError.*width"),
        ({"configs": CONFIG, "inputs": ["y"]}, "no type for 'y', and the data has a, b, c, d; write y:FP32"),
        ({"configs": CONFIG, "inputs": ["a b"]}, "'a b'; write NAME, or NAME:DATATYPE"),
        ({"configs": {"mine": {}}}, "members.mine: no file of .* is called so; it has exported, own"),
        ({"configs": CONFIG, "classes": ["a", "b"]}, "gives 3 numbers a row, and a, b are 2 classes; say --classes"),
        ({"configs": CONFIG, "factories": {"own": "network:Nett"}}, "network has no 'Nett'; did you mean 'Net'"),
        ({"configs": CONFIG, "label": "target"}, "no column 'target'; it has a, b, c, d, animal"),
    ],
)
def test_what_has_to_be_said_is_told_by_its_option(folder, table, asked, said):
    with pytest.raises(QuorateError, match=said):
        init(folder, table, **{"label": "animal", **asked})


def test_weights_that_several_classes_may_build_ask_which(folder):
    (folder / "other.py").write_text(CODE)
    with pytest.raises(QuorateError, match=r"may be built by network:Net, other:Net; say --factory own=MODULE:FACTORY"):
        init(folder)


def test_a_folder_without_models_and_a_spec_that_is_there_are_told(tmp_path):
    with pytest.raises(QuorateError, match=r"holds no model; give a folder of .*\.pt2, \.onnx"):
        init(tmp_path)
    (tmp_path / "quorate.yaml").write_text("")
    with pytest.raises(QuorateError, match=r"is there already; say --replace"):
        init(tmp_path)


def test_the_command_writes_what_the_function_writes(folder, table, monkeypatch, capsys):
    from quorate.cluster.cli import main

    words = ["init", str(folder), "--data", str(table), "--label", "animal", "--config", 'own={"width": 8}', "--json"]
    monkeypatch.setattr("sys.argv", ["quorate", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["bird", "cat", "dog"]


def test_the_probabilities_of_a_classifier_as_sklearn_onnx_writes_it_are_found(tmp_path):
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    iris = load_iris(as_frame=True)
    names = iris.target_names[iris.target]
    model = LogisticRegression(max_iter=1000).fit(iris.data.to_numpy(), names)
    (tmp_path / "iris.onnx").write_bytes(to_onnx(model, iris.data.to_numpy(np.float32)[:1]).SerializeToString())
    iris.data.assign(species=names).to_csv(tmp_path / "rows.csv", index=False)
    done = init(tmp_path, tmp_path / "rows.csv", label="species", name="irises")
    found = try_spec(done.path, tmp_path / "rows.csv")
    np.testing.assert_allclose(found.outputs["fused"], model.predict_proba(iris.data.to_numpy()), atol=1e-5)


def test_columns_of_a_model_that_only_numbers_its_classes_get_the_names_that_labels_show(tmp_path):
    data = load_breast_cancer(as_frame=True)  # 0 is malignant there, and benign comes first by name
    rows = data.data.iloc[:, :6]
    model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(rows[:400], data.target[:400])
    model.booster_.save_model(tmp_path / "m.txt")
    joblib.dump(LogisticRegression(), tmp_path / "other.joblib")
    table = rows[400:].assign(diagnosis=data.target_names[data.target[400:]])
    done = init(tmp_path, table, label="diagnosis")
    assert (done.classes, done.members["m"]["classes"]) == (("benign", "malignant"), ("malignant", "benign"))
    said = "\n".join(line for shown in done.tables() for line in shown.lines)
    assert "columns of m are malignant, benign, as the labels show" in said
    assert "left out: other.joblib is a pickle, whose code would run: if you trust it, quorate convert" in said
    shares = try_spec(done.path, table.drop(columns="diagnosis")).outputs["fused"]
    np.testing.assert_allclose(shares, np.asarray(model.predict_proba(rows[400:]))[:, ::-1], atol=1e-6)
    (tmp_path / "m.txt").unlink()
    with pytest.raises(QuorateError, match=r"holds no model; other.joblib is a pickle, .* --to skops; give a folder"):
        init(tmp_path, table, label="diagnosis", replace=True)


def test_what_a_member_has_to_be_configured_with_is_said_as_the_option(tmp_path):
    rows = pd.DataFrame(ROWS, columns=list("abcd"))
    forest = RandomForestClassifier(2, random_state=0).fit(rows, ["x", "y"] * 20)
    skops.io.dump(forest, tmp_path / "m.skops")
    table = rows.assign(label=["x", "y"] * 20)
    said = r"say --config 'm=\{trusted: \[sklearn.tree._tree.Tree\]\}'"
    with pytest.raises(QuorateError, match=said):
        init(tmp_path, table)
    done = init(tmp_path, table, configs={"m": {"trusted": ["sklearn.tree._tree.Tree"]}})
    assert load_spec(done.path).members["m"].config == {"trusted": ["sklearn.tree._tree.Tree"]}
