"""Heads of several outputs on one trunk, each trained by its own labels; and a cheaper ensemble of several outputs."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import quorate
from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.tuning import Labelled, LabelledOutputs, Training, digits, save_weights, train
from quorate.tuning.architectures import BUILD
from quorate.tuning.data.labelled_outputs import OutputLabels
from quorate.tuning.errors import PromotionError, TuningError
from quorate.tuning.runs.probe import load_probe

pytestmark = pytest.mark.long

NETWORKS = """
import torch
from torch import nn

def trunk():
    return nn.Flatten()

def shared(width):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU())

def head(classes, read=64):
    return nn.Linear(read, classes)
"""
INK = """
def ink():
    return lambda image: image.reshape(len(image), -1).sum(axis=1)[:, None]
"""
PARITY = ["even", "odd"]


def member(factory, *read, output="logits", **config):
    return {"model": f"two_heads:{factory}", "config": config, "inputs": list(read), "output": output}


def heads(**members):
    return parse_spec({
        "name": "reading",
        "inputs": {"image": {"datatype": "FP32", "shape": [1, 8, 8]}},
        "members": {
            "trunk": member("trunk", "image", output="features"), "digit_head": member("head", "trunk", classes=10),
            "parity_head": member("head", "trunk", classes=2), **members,
        },
        "fusions": {
            "digit": {"rule": "mean", "members": ["digit_head"], "classes": [str(n) for n in range(10)]},
            "parity": {"rule": "mean", "members": ["parity_head"], "classes": PARITY},
        },
        "outputs": ["digit", "parity"],
    })  # fmt: skip


@pytest.fixture(scope="module")
def images():
    splits = digits()
    return splits.train.rows(slice(0, 600)), splits.validation.rows(slice(0, 200)), splits.test.rows(slice(0, 200))


def table(rows):
    labels = np.asarray(rows.labels)
    return pd.DataFrame({
        "image": [one.ravel() for one in rows.inputs["image"]], "digit": labels, "parity": np.array(PARITY)[labels % 2]
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "two_heads.py").write_text(NETWORKS)
    return tmp_path


def trained(spec, folder, images, **options):
    seen, *rest = images
    rest = pd.concat([table(rows) for rows in rest])
    options = {"label": {}, "epochs": 4, "learning_rate": 0.05, "runs": folder / "runs", **options}
    return quorate.train(spec, rest, train=table(seen), folder=folder, **options)


def test_each_head_is_trained_by_the_labels_of_its_output_and_all_are_one_deployable_spec(folder, images):
    found = trained(heads(), folder, images, metric={"digit": "accuracy"})
    assert (list(found.outputs), found.left) == (["digit", "parity"], ())
    assert found["digit"].tuned.choice.metric == "accuracy"
    spec = load_spec(found.folder / "spec.yaml")
    assert spec == found.spec
    test = images[2]
    graph = OfflineGraph(spec, found.folder, test.inputs)
    seen, truth = images[0], {"digit": np.asarray(test.labels), "parity": np.asarray(test.labels) % 2}
    for output, labels in truth.items():
        right = (graph.node(output).aligned.argmax(axis=1) == labels).mean()
        known = np.asarray(seen.labels) % (10 if output == "digit" else 2)
        linear = LogisticRegression(max_iter=500).fit(seen.inputs["image"].reshape(len(seen), -1), known)
        theirs = linear.score(test.inputs["image"].reshape(len(test), -1), labels)
        assert right > theirs - 0.05
    report = json.loads((found.folder / "report.json").read_text())
    assert report["outputs"].keys() == {"digit", "parity"}
    probe = load_probe(found.folder, spec)
    graph = OfflineGraph(spec, found.folder, probe.inputs)
    for output, expected in probe.answers.items():
        np.testing.assert_allclose(graph.node(output).aligned, expected, atol=1e-6)


def test_outputs_none_of_whose_parts_are_named_stay_as_they_were(folder, images):
    found = trained(heads(), folder, images, what=["digit_head"], epochs=1)
    assert (list(found.outputs), found.left) == (["digit"], ("parity",))
    assert found.spec.members["parity_head"] == heads().members["parity_head"]
    assert "parity stays as it was: nothing of it is trained" in repr(found)
    with pytest.raises(TuningError, match="what: nobody; name members or fusions: digit, digit_head, "):
        trained(heads(), folder, images, what=["nobody"])


def test_what_two_outputs_read_is_not_trained_for_one_of_them(folder, images):
    spec = heads(
        middle=member("shared", "trunk", output="features", width=12),
        digit_head=member("head", "middle", classes=10, read=12),
        parity_head=member("head", "middle", classes=2, read=12),
    )
    sentence = "members.middle: outputs 'digit' and 'parity' read it, and trained for one it would be another"
    with pytest.raises(TuningError, match=sentence):
        trained(spec, folder, images)
    with pytest.raises(TuningError, match="resume: a run of several outputs"):
        trained(heads(), folder, images, resume=folder)


def flat(folder, images):
    """Networks of digits, and of whether they are odd, that read the request alone; and a value."""
    seen, validation, _ = images
    members = {}
    for name, width, classes in (("small", 12, 10), ("large", 32, 10), ("odd", 16, 2)):
        config = {"family": "mlp", "width": width, "depth": 1, "image": [1, 8, 8], "classes": classes}

        def rows(data, classes=classes):
            return Labelled(data.inputs, np.asarray(data.labels) % classes, tuple(map(str, range(classes))))

        model = train(config, rows(seen), rows(validation), Training(epochs=3, seed=width)).model
        digest = save_weights(model, folder / f"{name}.safetensors")
        members[name] = {
            "model": BUILD, "config": config, "weights": f"{name}.safetensors", "digest": digest, "inputs": ["image"],
        }  # fmt: skip
    members["sum"] = {"model": "inks:ink", "inputs": ["image"], "output": "values"}
    (folder / "inks.py").write_text(INK)
    return parse_spec({
        "name": "reading",
        "inputs": {"image": {"datatype": "FP32", "shape": [1, 8, 8]}},
        "members": members,
        "fusions": {
            "digit": {"rule": "mean", "members": ["small", "large"], "classes": [str(n) for n in range(10)]},
            "parity": {"rule": "mean", "members": ["odd"], "classes": PARITY},
            "ink": {"rule": "mean", "members": ["sum"]},
        },
        "outputs": ["digit", "parity", "ink"],
    })  # fmt: skip


def labelled(rows):
    every, labels = np.arange(len(rows)), np.asarray(rows.labels)
    ink = rows.inputs["image"].reshape(len(rows), -1).sum(axis=1).astype(np.float64)
    found = {"digit": labels, "parity": labels % 2, "ink": ink}
    classes = {"digit": tuple(map(str, range(10))), "parity": tuple(PARITY), "ink": ()}
    return LabelledOutputs(rows.inputs, {name: OutputLabels(of, every) for name, of in found.items()}, classes)


@pytest.mark.slow
def test_each_output_of_classes_is_compressed_and_its_pick_is_the_one_it_would_be_alone(folder, images):
    spec = flat(folder, images)
    seen, _, test = images
    how = {"student": "mlp", "epochs": 3, "tolerance": 1.0, "folder": folder}
    found = quorate.compress(spec, labelled(seen), labelled(test), label={}, runs=folder / "runs", **how)
    assert list(found.outputs) == ["digit", "parity"]
    assert found.left == {"ink": "members.sum.output is values, and members that give classes are compressed"}
    data = spec.model_dump(mode="json", exclude_defaults=True)
    members = {name: data["members"][name] for name in ("small", "large")}
    classes = [str(n) for n in range(10)]
    fusion = {"rule": "mean", "members": ["small", "large"]}
    own = parse_spec({**data, "members": members, "fusions": {}, "fusion": fusion, "outputs": [], "classes": classes})
    alone = quorate.compress(own, seen, test, runs=folder / "alone", **how)
    assert found["digit"].pick == alone.pick
    for name, one in alone.candidates.items():
        assert found["digit"].candidates[name].log_loss == pytest.approx(one.log_loss, abs=1e-4)
    written = load_spec(found.folder / "spec.yaml")
    assert written.fusions["ink"] == spec.fusions["ink"]
    assert found["digit"].pick != "ensemble" or found["parity"].pick != "ensemble"
    graph = OfflineGraph(written, found.folder, test.inputs)
    pick = found["digit"].candidates[found["digit"].pick]
    own_answer = OfflineGraph(pick.spec, pick.folder, test.inputs)
    np.testing.assert_allclose(graph.node("digit").aligned, own_answer.node(pick.spec.output_name).aligned, atol=1e-6)
    probe = load_probe(found.folder, written)
    ink = probe.inputs["image"].reshape(len(probe.expected), -1).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probe.answers["ink"], ink, rtol=1e-5)


def test_a_run_without_alternatives_by_output_says_so(folder, images):
    from quorate.tuning.workflows.promote import _read

    found = trained(heads(), folder, images, what=["digit_head"], epochs=1)
    with pytest.raises(PromotionError, match="it keeps no alternatives by output"):
        _read(found.folder, {"digit": "incumbent"})


def test_where_no_output_can_be_compressed_it_is_said(folder, images):
    with pytest.raises(TuningError, match=r"fusions\.digit: output 'parity' reads 'trunk' too"):
        quorate.compress(heads(), labelled(images[0]), labelled(images[2]), label={}, folder=folder)
