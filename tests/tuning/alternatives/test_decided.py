import numpy as np
import pytest
import sklearn.metrics
import torch

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.fusion import Calibration, WeightedMean
from quorate.tuning import Labelled, tune_fusion
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
    test = rows(490, 2)
    result = tune_fusion(spec, folder, rows(490, 1), test, metric, runs=tmp_path, refit=False)
    choice = result.choice
    assert choice.recommended in {"decisions", "stacking"}
    assert choice.alternatives["uniform"].gain.low > 0
    assert choice.verdict.startswith(f"ensemble, serve {choice.recommended}: +")
    file = "spec.yaml" if choice.recommended == "decisions" else "spec-decisions.yaml"
    written = load_spec(result.folder / file)
    fusion = written.output_fusion
    assert fusion.weights is not None
    assert fusion.calibration is not None
    assert written.classes is not None
    outputs = torch.from_numpy(test.inputs["row"].transpose(1, 0, 2))
    pooled = WeightedMean([fusion.weights[name] for name in "abc"]).fuse(outputs).values
    decided = Calibration.from_spec(fusion.calibration.model_dump(), written.classes).apply(pooled).numpy().argmax(1)
    score = {
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
        "f1_macro": lambda y, d: sklearn.metrics.f1_score(y, d, average="macro"),
    }[metric]
    assert choice.alternatives["decisions"].value == pytest.approx(score(test.labels, decided), abs=1e-9)
    probe = load_probe(result.folder, written, None if file == "spec.yaml" else "decisions")
    revision = build_revision(written, result.folder)
    answers = np.stack([run_in_process(written.job(name), result.folder, probe.inputs) for name in revision.asked])
    served = revision.fuse(answers, np.ones(answers.shape[:2], bool)).values
    np.testing.assert_allclose(probe.expected, served, atol=probe.tolerance)


def test_members_that_know_nothing_earn_no_biases(rare, tmp_path):
    spec, folder = rare
    parts = rows(500, 3, False), rows(500, 4, False)
    result = tune_fusion(spec, folder, *parts, "balanced_accuracy", runs=tmp_path, refit=False)
    assert result.choice.decision != "ensemble"
    assert result.choice.alternatives["decisions"].value == pytest.approx(0.25, abs=0.06)


def test_costs_are_what_is_saved(rare, tmp_path):
    spec, folder = rare
    costs = np.ones((4, 4)) - np.eye(4)
    costs[3, :3] = 30  # missing a z
    result = tune_fusion(spec, folder, rows(490, 5), rows(490, 6), costs=costs, runs=tmp_path)
    found = result.choice.alternatives
    assert result.choice.metric == "cost"
    assert found["decisions"].value < found["uniform"].value
    assert found["uniform"].gain.low > 0


@pytest.mark.parametrize("costs", [[[0, 1], [1, 0]], np.full((4, 4), np.nan), "dear"])
def test_costs_that_do_not_fit_the_classes_are_refused_before_anything_is_computed(rare, tmp_path, costs):
    spec, folder = rare
    with pytest.raises(TuningError, match=r"costs: .*; give \(4, 4\) finite numbers"):
        tune_fusion(spec, folder, rows(20, 5), rows(20, 6), costs=costs, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
