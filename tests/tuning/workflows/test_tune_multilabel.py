"""Several labels a row, each of which holds or not: the question, and what is served."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import f1_score, log_loss

import quorate
from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.fusion.calibration.decision import fit_thresholds
from quorate.tuning import Outputs, choose
from quorate.tuning.errors import DataError, TuningError

pytestmark = pytest.mark.long

TAGS = ("music", "sport", "news", "rare")


def tagged(rows=1500, seed=0):
    """(rows, 4) labels and (3, rows, 4) probabilities of members that see the true logits under noise."""
    random = np.random.default_rng(seed)
    logits = random.normal([0.5, 0, -0.5, -4], 1.5, (rows, 4))
    truth = (random.random((rows, 4)) < expit(logits)).astype(float)
    said = expit(logits + random.normal(0, [[[0.8]], [[1.0]], [[2.0]]], (3, rows, 4)))
    return truth, said.astype(np.float32)


def per_label(truth, fused):
    return np.mean([log_loss(truth[:, k], fused[:, k].astype(float), labels=[0, 1]) for k in range(truth.shape[1])])


def test_predictions_of_labels_are_compared_by_log_loss_per_label(tmp_path):
    truth, said = tagged()
    columns = {f"{name}/{tag}": said[m, :, k] for m, name in enumerate("abc") for k, tag in enumerate(TAGS)}
    labels = {f"label/{tag}": truth[:, k].astype(int) for k, tag in enumerate(TAGS)}
    split = np.where(np.arange(len(truth)) % 2, "judge", "solve")
    pd.DataFrame({**labels, **columns, "split": split}).to_parquet(tmp_path / "tags.parquet")
    result = quorate.tune(predictions=tmp_path / "tags.parquet", runs=tmp_path / "runs")
    assert (result.choice.metric, result.choice.decision) == ("log_loss", "ensemble")
    judged = split == "judge"
    for name, found in result.choice.alternatives.items():
        if name in result.choice.recipes:
            fused = result.choice.recipes[name].fuse(("a", "b", "c"), said[:, judged])
            assert found.value == pytest.approx(per_label(truth[judged], fused), rel=1e-5)
    frequencies = np.tile((truth[~judged].sum(axis=0) + 1) / (sum(~judged) + 2), (sum(judged), 1))
    assert result.choice.alternatives["constant"].value == pytest.approx(
        per_label(truth[judged], frequencies), rel=1e-5
    )

    def loss(free):
        weights = np.exp(free) / np.exp(free).sum()
        return per_label(truth[~judged], np.tensordot(weights, said[:, ~judged], axes=1))

    best = minimize(loss, np.zeros(3), method="Nelder-Mead").fun
    weights = result.choice.recipes["tuned"].weights
    assert weights is not None
    solved = per_label(truth[~judged], np.tensordot([weights[name] for name in "abc"], said[:, ~judged], axes=1))
    assert best - 1e-6 <= solved <= best + 2e-3  # drawn towards equal weights as far as that helps


def test_in_python_the_metric_is_found_by_its_name():
    truth, said = tagged(400)
    halves = [Outputs(("a", "b", "c"), said[:, part], truth[part]) for part in (slice(0, 200), slice(200, 400))]
    choice = choose(*halves, metric="log_loss")
    assert choice.alternatives["a"].value == pytest.approx(per_label(truth[200:], said[0, 200:]), rel=1e-5)
    assert choice.unbounded == ()


def spec_of(folder):
    (folder / "my_taggers.py").write_text("def make(member):\n    return lambda row: row[:, member]\n")
    members = {
        name: {"model": "my_taggers:make", "config": {"member": m}, "inputs": ["row"], "output": "probabilities"}
        for m, name in enumerate("abc")
    }
    return parse_spec(
        {
            "name": "tags",
            "inputs": {"row": {"datatype": "FP32", "shape": [3, 4]}},
            "classes": list(TAGS),
            "members": members,
            "fusion": {"rule": "mean"},
        }
    )


def table(truth, said, folder):
    rows = said.transpose(1, 0, 2)
    pd.DataFrame({"row": [row.ravel() for row in rows], "label": list(truth)}).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def test_a_table_with_a_list_of_0_and_1_a_row_is_tuned_and_served(tmp_path):
    truth, said = tagged()
    result = quorate.tune(spec_of(tmp_path), table(truth, said, tmp_path), folder=tmp_path, runs=tmp_path / "runs")
    assert result.choice.decision == "ensemble"
    assert result.gap is not None
    assert 0 <= result.gap < 1e-2
    served = load_spec(result.folder / "spec.yaml")
    fresh, others = tagged(2000, seed=1)
    revision = build_revision(served, result.folder)
    outputs = np.stack([others["abc".index(name)] for name in revision.asked])
    fused = revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values
    assert per_label(fresh, fused) < min(per_label(fresh, one) for one in others)


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_that_hold_all_true_labels_are_fitted_and_served(tmp_path, by_class):
    truth, said = tagged()
    data = table(truth, said, tmp_path)
    result = quorate.tune(
        spec_of(tmp_path), data, coverage=0.8, by_class=by_class, folder=tmp_path, runs=tmp_path / "runs"
    )
    revision = build_revision(load_spec(result.folder / "spec.yaml"), result.folder)
    truth, said = tagged(4000, seed=1)
    outputs = np.stack([said["abc".index(name)] for name in revision.asked])
    there = np.ones(outputs.shape[:2], bool)
    conformal = revision.graph.output.conformal
    assert conformal is not None
    sets = json.loads(str(conformal.parameters(revision.fuse(outputs, there).values, there)["prediction_sets"]))
    held = np.array([[tag in one for tag in TAGS] for one in sets])
    if by_class:
        for column in range(3):  # the fourth is rare
            assert held[truth[:, column] > 0, column].mean() == pytest.approx(0.8, abs=0.06)
    else:
        assert (held | (truth == 0)).all(axis=1).mean() == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_thresholds_by_label_are_tuned_for_f1_and_served(tmp_path, average):
    truth, said = tagged()
    data = table(truth, said, tmp_path)
    result = quorate.tune(spec_of(tmp_path), data, metric=f"f1_{average}", folder=tmp_path, runs=tmp_path / "runs")
    assert result.choice.recommended in ("decisions", "decided_single")
    file = "spec.yaml" if result.choice.recommended == "decisions" else "spec-decisions.yaml"
    served = load_spec(result.folder / file)
    assert served.output_fusion.decision is not None
    thresholds = served.output_fusion.decision.thresholds
    assert isinstance(thresholds, dict)
    assert set(thresholds) == set(TAGS)
    fresh, others = tagged(3000, seed=1)
    revision = build_revision(served, result.folder)
    outputs = np.stack([others["abc".index(name)] for name in revision.asked])
    decided = revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values
    assert np.isin(decided, (0, 1)).all()
    at_half = f1_score(fresh, others.mean(axis=0) >= 0.5, average=average, zero_division=0)
    assert f1_score(fresh, decided, average=average) > at_half + 0.02


def test_no_thresholds_of_a_grid_give_a_higher_f1_of_all_labels_together():
    truth, said = tagged(300)
    scores, true = said[0, :, :2].round(1), truth[:, :2] > 0
    best = max(
        f1_score(true, scores >= [a, b], average="micro", zero_division=0)
        for a in np.linspace(0, 1.1, 12)
        for b in np.linspace(0, 1.1, 12)
    )
    found = f1_score(true, scores >= fit_thresholds(scores, true, together=True), average="micro")
    assert found == pytest.approx(best)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_labels_are_compared_by_areas(tmp_path, name):
    truth, said = tagged()
    data = table(truth, said, tmp_path)
    result = quorate.tune(spec_of(tmp_path), data, metric=name, folder=tmp_path, runs=tmp_path / "runs")
    assert result.choice.decision == "ensemble"
    assert result.gap is None
    assert result.choice.alternatives["constant"].value == pytest.approx(
        0.5 if name == "roc_auc" else truth.mean(), abs=0.05
    )


def test_what_is_not_asked_of_labels_is_refused(tmp_path):
    truth, said = tagged(100)
    spec = spec_of(tmp_path)
    with pytest.raises(TuningError, match="'accuracy' of several labels a row; give one of log_loss, brier"):
        quorate.tune(spec, table(truth, said, tmp_path), metric="accuracy", folder=tmp_path, runs=tmp_path / "runs")
    with pytest.raises(DataError, match="0 or 1 for each class"):
        quorate.tune(spec, table(truth * 2, said, tmp_path), folder=tmp_path, runs=tmp_path / "runs")
    with pytest.raises(DataError, match="0 or 1 for each class"):
        quorate.tune(spec, table(truth[:, :3], said, tmp_path), folder=tmp_path, runs=tmp_path / "runs")
