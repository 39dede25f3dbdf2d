"""Trained ensembles and their verdicts, from rows to a run that can be deployed."""

import json
import re

import numpy as np
import pytest

import quorate
from quorate.deployments import load_spec
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.files import save_spec
from quorate.tuning import Labelled
from quorate.tuning.errors import DataError, TuningError
from tests.tuning.support.scene import WIDTH, blind_scene, scene, scene_rows, two_heads, write_networks

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def rows():
    train, solve, judge = scene_rows()
    rest = {name: np.concatenate([solve.inputs[name], judge.inputs[name]]) for name in train.inputs}
    return train, Labelled(rest, np.concatenate([solve.labels, judge.labels]), train.classes)


@pytest.fixture
def folder(tmp_path):
    return write_networks(tmp_path / "scene")


def train(spec, folder, rows, **options):
    seen, rest = rows
    options = {"train": seen, "epochs": 6, "learning_rate": 1e-2, "runs": folder / "runs", **options}
    return quorate.train(spec, rest, folder=folder, **options)


@pytest.fixture(scope="module")
def trained(rows, tmp_path_factory):
    """A run that is only looked at."""
    return train(blind_scene(), write_networks(tmp_path_factory.mktemp("scene") / "scene"), rows, what="all")


def test_what_was_trained_is_an_alternative_beside_the_ensemble_as_it_was(trained):
    result, choice = trained, trained.tuned.choice
    assert {"trained", "incumbent", "class_frequencies", "reader"} <= set(choice.alternatives)
    assert choice.alternatives["trained"].value < choice.alternatives["incumbent"].value - 1
    assert choice.recommended in ("reader", "trained", "calibrated_single")
    assert re.match(r"serve \w+: \+\d\.\d+ nats per row \(.*\) over incumbent", choice.verdict)
    assert choice.alternatives["incumbent"].members == 1
    assert result.trained == ("both", "reader", "above", "below")
    report = json.loads((result.folder / "report.json").read_text())
    assert report["recommended"] == choice.recommended
    assert (result.folder / "spec-incumbent.yaml").is_file()
    assert not (result.folder / "training").exists()


def test_the_run_answers_what_the_verdict_judged(trained, rows):
    deployable = load_spec(trained.folder / "spec.yaml")
    fused = OfflineGraph(deployable, trained.folder, rows[1].inputs).node("answer").aligned
    assert (fused.argmax(axis=1) == rows[1].labels).mean() > 0.9
    was = load_spec(trained.folder / "spec-incumbent.yaml")
    before = OfflineGraph(was, trained.folder, rows[1].inputs).node("answer").aligned
    assert (before.argmax(axis=1) == rows[1].labels).mean() < 0.5


def test_training_that_makes_it_worse_is_not_recommended(trained, rows, tmp_path):
    given = load_spec(trained.folder / "spec.yaml")
    worse = quorate.train(
        given, rows[1], train=rows[0].rows(slice(0, 30)), folder=trained.folder, what=["reader"], epochs=1,
        learning_rate=10.0, runs=tmp_path,
    )  # fmt: skip
    assert worse.tuned is not None
    assert worse.tuned.choice.recommended not in ("trained", "reader")
    again = load_spec(worse.folder / "spec.yaml")
    fused = OfflineGraph(again, worse.folder, rows[1].inputs).node("answer").aligned
    assert (fused.argmax(axis=1) == rows[1].labels).mean() > 0.9


def test_stacking_that_has_no_state_yet_is_fitted_out_of_fold_and_served(folder, rows):
    spec = two_heads("stacking", options={"over": "logits"})
    save_spec(spec, folder / "spec.yaml")
    with pytest.raises(SpecError, match="is learned; name its safetensors file, or make one: quorate train"):
        quorate.validate(folder / "spec.yaml")
    result = train(spec, folder, rows, what="all", folds=2)
    assert result.trained == ("above_head", "below_head", "above", "below", "fused")
    assert "incumbent" not in result.tuned.choice.alternatives
    found = result.tuned.choice.alternatives
    assert found["trained"].value < min(found["above_head"].value, found["below_head"].value)
    quorate.validate(result.folder / "spec-trained.yaml" if result.tuned.choice.recommended != "trained"
                     else result.folder / "spec.yaml")  # fmt: skip


def test_an_ensemble_learns_from_a_teacher_without_a_label(trained, folder, rows):
    student = quorate.train(
        two_heads(), unlabelled=rows[0].inputs, teacher=trained.folder / "spec.yaml", folder=folder, what="all",
        epochs=8, learning_rate=1e-2, runs=folder / "runs",
    )  # fmt: skip
    assert student.tuned is None
    assert "no labelled rows" in str(student)
    fused = OfflineGraph(student.spec, student.folder, rows[1].inputs).node("fused").aligned
    taught = OfflineGraph(trained.spec, trained.folder, rows[1].inputs).node("answer").aligned
    assert (fused.argmax(axis=1) == taught.argmax(axis=1)).mean() > 0.7


def test_an_ensemble_whose_members_read_others_is_tuned_too(folder, rows):
    heads = train(two_heads(), folder, rows, what="all")
    result = quorate.tune(load_spec(heads.folder / "spec.yaml"), rows[1], folder=heads.folder, runs=folder / "runs")
    found = result.choice.alternatives
    assert found["tuned"].value < min(found["above_head"].value, found["below_head"].value)


@pytest.mark.parametrize(
    ("head", "output", "classes", "labels", "at_most"),
    [
        ("head", "values", None, lambda digits: digits / 4.5, 0.5),
        ("yes_or_no", "probabilities", ["even", "large"], lambda digits: [digits % 2 == 0, digits > 4], 0.4),
    ],
    ids=["values", "several labels"],
)
def test_values_and_several_labels_are_trained_too(folder, rows, head, output, classes, labels, at_most):
    fields = blind_scene().model_dump(mode="json", exclude_defaults=True)
    count = len(classes or "1")
    reader = {"model": f"eyes_of_a_scene:{head}", "config": {"width": 2 * WIDTH, "classes": count}, "output": output}
    fields["members"]["reader"] |= reader
    fields["classes"] = classes
    parts = [Labelled(part.inputs, np.array(labels(part.labels), dtype=float).T, tuple(classes or ())) for part in rows]
    result = train(fields, folder, parts, what="all", epochs=15)
    found = result.tuned.choice.alternatives
    assert found["trained"].value < at_most < found["incumbent"].value


def test_a_head_costs_what_it_waits_for_too(folder, rows):
    slow = "class Slow(nn.Flatten):\n    def forward(self, x):\n        time.sleep(0.02)\n        return x\n"
    text = (folder / "eyes_of_a_scene.py").read_text().replace("nn.Flatten(),", "Slow(),")
    (folder / "slow_eyes.py").write_text(f"import time\n{text}\n\n{slow}")
    given = two_heads().model_dump_json(exclude_defaults=True).replace("eyes_of_a_scene", "slow_eyes")
    heads = train(json.loads(given), folder, rows, what="heads", epochs=1)
    spec = load_spec(heads.folder / "spec.yaml")
    result = quorate.tune(spec, rows[1], folder=heads.folder, runs=folder / "runs", latency_price=1e-6)
    costs = {name: one.cost for name, one in result.choice.alternatives.items()}
    of_heads = [costs[name] for name in ("above_head", "below_head") if name in costs]
    assert of_heads
    assert all(cost is not None and cost.latency_ms > 20 for cost in of_heads)


def test_a_member_that_is_another_network_at_each_load_is_not_left_as_it_is(folder, rows):
    with pytest.raises(TuningError, match=r"members\.above: it has no weights, and each load makes another network"):
        train(blind_scene(), folder, rows)


def test_rows_without_labels_and_without_a_teacher_teach_nothing(folder, rows):
    with pytest.raises(DataError, match="give labelled rows, or rows without labels and a teacher"):
        quorate.train(scene(), unlabelled=rows[0].inputs, folder=folder, runs=folder / "runs")


def test_a_run_that_was_cut_off_goes_on_to_what_it_would_have_come_to(trained, folder, rows):
    def cut(step):
        if "epoch 3 of" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(blind_scene(), folder, rows, what="all", runs=folder / "cut", on_step=cut)
    (run,) = (folder / "cut").iterdir()
    again = train(blind_scene(), folder, rows, what="all", resume=run)
    assert again.folder == run
    assert again.history == trained.history
    assert again.spec.revision == trained.spec.revision


def test_a_folder_without_a_training_is_not_taken_up(folder, rows, tmp_path):
    with pytest.raises(TuningError, match="holds no training that was cut off"):
        train(scene(), folder, rows, resume=tmp_path)
