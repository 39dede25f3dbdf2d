import json

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.fusion import Calibration, WeightedMean
from quorate.tuning import Labelled, decision_gain, tune_decisions
from quorate.tuning.errors import TuningError
from quorate.tuning.predictions.run_member import run_in_process
from quorate.tuning.runs.probe import load_probe

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """Three members that give what their column of the row holds, and classes of which two are rare."""
    folder = tmp_path_factory.mktemp("rare")
    (folder / "my_factory_h.py").write_text(
        "import numpy as np\ndef make(member):\n    return lambda row: row[:, member]\n"
    )
    inputs = {"row": {"datatype": "FP32", "shape": [3, 4]}}
    members = {
        name: {"model": "my_factory_h:make", "config": {"member": i}, "inputs": ["row"], "output": "probabilities"}
        for i, name in enumerate("abc")
    }
    words = {"name": "rare", "inputs": inputs, "classes": list("wxyz"), "members": members}
    return parse_spec({**words, "fusion": {"rule": "mean"}}), folder


def rows(count, seed, informed=True):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, count, p=[0.7, 0.2, 0.06, 0.04])
    logits = rng.normal(size=(count, 3, 4)) + np.log([0.7, 0.2, 0.06, 0.04])
    if informed:
        logits[np.arange(count), :, labels] += [1.5, 1.2, 0.8]
    probs = np.exp(logits)
    probs = (probs / probs.sum(-1, keepdims=True)).astype(np.float32)
    return Labelled({"row": probs}, labels, tuple("wxyz"))


@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1_macro"])
def test_the_spec_serves_the_decisions_that_the_report_scores(rare, tmp_path, metric):
    spec, folder = rare
    test = rows(1500, 2)
    result = tune_decisions(spec, folder, rows(1500, 1), test, metric, runs=tmp_path)
    assert result.method == "decisions"
    written = load_spec(result.folder / "spec.yaml")
    fusion = written.output_fusion
    assert fusion.weights is not None
    assert fusion.calibration is not None
    assert written.classes is not None
    outputs = torch.from_numpy(test.inputs["row"].transpose(1, 0, 2))
    pooled = WeightedMean([fusion.weights[name] for name in "abc"]).fuse(outputs).values
    calibration = Calibration.from_spec(fusion.calibration.model_dump(), written.classes)
    decided = calibration.apply(pooled).numpy().argmax(1)
    score = {
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
        "f1_macro": lambda y, d: sklearn.metrics.f1_score(y, d, average="macro"),
    }[metric]
    assert result.gain.tuned == pytest.approx(score(test.labels, decided), abs=2e-3)
    assert result.gain.over_uniform.low > 0
    assert result.gain.verdict.startswith("ensemble with the tuned decisions")
    report = json.loads((result.folder / "report.json").read_text())
    assert report["verdict"] == result.gain.verdict
    revision, probe = build_revision(written, result.folder), load_probe(result.folder, written)
    assert revision.name == written.revision
    answers = np.stack([run_in_process(written.job(name), result.folder, probe.inputs) for name in revision.asked])
    served = revision.fuse(answers, np.ones(answers.shape[:2], bool)).values
    np.testing.assert_allclose(probe.expected, served, atol=probe.tolerance)


def test_members_that_know_nothing_earn_no_biases(rare, tmp_path):
    spec, folder = rare
    parts = rows(500, 3, False), rows(500, 4, False)
    result = tune_decisions(spec, folder, *parts, "balanced_accuracy", runs=tmp_path)
    assert result.method == "log-loss"  # biases fit chance, and cross-validation says so
    assert result.spec.output_fusion.calibration is None
    assert result.gain.tuned == pytest.approx(0.25, abs=0.05)
    assert not result.gain.verdict.startswith("ensemble with the tuned decisions")


def test_costs_are_what_is_saved(rare, tmp_path):
    spec, folder = rare
    costs = np.ones((4, 4)) - np.eye(4)
    costs[3, :3] = 30  # missing a z
    result = tune_decisions(spec, folder, rows(1500, 5), rows(1500, 6), costs=costs, runs=tmp_path)
    assert result.gain.metric == "cost per row"
    assert result.gain.tuned < result.gain.uniform
    assert result.gain.over_uniform.low > 0
    assert result.gain.over_uniform.difference == pytest.approx(result.gain.uniform - result.gain.tuned)


@pytest.mark.parametrize("costs", [[[0, 1], [1, 0]], np.full((4, 4), np.nan), "dear"])
def test_costs_that_do_not_fit_the_classes_are_refused_before_anything_is_computed(rare, tmp_path, costs):
    spec, folder = rare
    with pytest.raises(TuningError, match=r"costs: .*; give \(4, 4\) finite numbers"):
        tune_decisions(spec, folder, rows(20, 5), rows(20, 6), costs=costs, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_interval_is_scipys_paired_bootstrap():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    first, second = (np.where(rng.random(300) < share, labels, rng.integers(0, 3, 300)) for share in (0.5, 0.6))

    def gain(y, a, b):
        return sklearn.metrics.f1_score(y, b, average="macro") - sklearn.metrics.f1_score(y, a, average="macro")

    found = decision_gain(labels, first, second, "f1_macro")
    theirs = scipy.stats.bootstrap(
        (labels, first, second), gain, paired=True, vectorized=False, n_resamples=400, method="percentile", rng=rng
    ).confidence_interval
    assert found.difference == pytest.approx(gain(labels, first, second))
    np.testing.assert_allclose([found.low, found.high], theirs, atol=0.02)
