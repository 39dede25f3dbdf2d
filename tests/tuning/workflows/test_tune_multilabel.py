"""Several labels a row, each of which holds or not: the question, and what is served."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import log_loss

import quorate
from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
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
    assert 0 <= result.gap < 1e-2
    served = load_spec(result.folder / "spec.yaml")
    fresh, others = tagged(2000, seed=1)
    revision = build_revision(served, result.folder)
    outputs = np.stack([others["abc".index(name)] for name in revision.asked])
    fused = revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values
    assert per_label(fresh, fused) < min(per_label(fresh, one) for one in others)


def test_what_is_not_asked_of_labels_is_refused(tmp_path):
    truth, said = tagged(100)
    spec = spec_of(tmp_path)
    with pytest.raises(TuningError, match="log_loss or brier"):
        quorate.tune(spec, table(truth, said, tmp_path), metric="accuracy", folder=tmp_path, runs=tmp_path / "runs")
    with pytest.raises(DataError, match="0 or 1 for each class"):
        quorate.tune(spec, table(truth * 2, said, tmp_path), folder=tmp_path, runs=tmp_path / "runs")
    with pytest.raises(DataError, match="0 or 1 for each class"):
        quorate.tune(spec, table(truth[:, :3], said, tmp_path), folder=tmp_path, runs=tmp_path / "runs")
