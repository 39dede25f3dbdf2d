"""A spec's own rule comes back with better weights, and is served as the report says."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.tuning import Labelled, Outputs, choose, tune_fusion
from quorate.tuning.errors import PredictionError
from quorate.tuning.runs.probe import load_probe

pytestmark = pytest.mark.long

NAMES = ("a", "b", "c")


def spec_of(folder, shape, fusion, **fields):
    """Members that give what their column of the row holds."""
    (folder / "my_columns.py").write_text("def make(member):\n    return lambda row: row[:, member]\n")
    output = "values" if "classes" not in fields else "probabilities"
    members = {
        name: {"model": "my_columns:make", "config": {"member": m}, "inputs": ["row"], "output": output}
        for m, name in enumerate(NAMES)
    }
    inputs = {"row": {"datatype": "FP32", "shape": [3, shape]}}
    return parse_spec({"name": "columns", "inputs": inputs, "members": members, "fusion": fusion, **fields})


def served(file, folder, rows):
    spec = load_spec(folder / file)
    revision = build_revision(spec, folder)
    outputs = np.stack([rows[:, NAMES.index(name)] for name in revision.asked])
    return revision.fuse(np.ascontiguousarray(outputs), np.ones(outputs.shape[:2], bool)).values


def voters(count, seed, right=(0.4, 0.4, 0.9)):
    """Members that name one class and are right so often; all else they say is 0."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    said = np.where(random.random((3, count)) < np.array(right)[:, None], labels, random.integers(0, 4, (3, count)))
    rows = np.eye(4, dtype=np.float32)[said].transpose(1, 0, 2)
    return Labelled({"row": rows}, labels, tuple("wxyz"))


def test_a_weighted_vote_with_one_much_better_member_comes_back_as_one_with_better_weights(tmp_path):
    equal = {"rule": "weighted_vote", "weights": dict.fromkeys(NAMES, 1.0), "options": {"tie": "heaviest_voter"}}
    spec = spec_of(tmp_path, 4, equal, classes=list("wxyz"))
    solve, judge, fresh = voters(400, 0), voters(400, 1), voters(4000, 2)
    result = tune_fusion(spec, tmp_path, solve, judge, "accuracy", runs=tmp_path / "runs", refit=False)
    found = result.choice.alternatives
    assert found["reweighted"].value > found["incumbent"].value + 0.02
    file = "spec.yaml" if result.choice.recommended == "reweighted" else "spec-reweighted.yaml"
    fusion = load_spec(result.folder / file).output_fusion
    assert (fusion.rule, fusion.options["tie"]) == ("weighted_vote", "heaviest_voter")
    assert fusion.weights is not None
    assert fusion.weights["c"] > fusion.weights["a"]
    before, after = (
        (served(one, result.folder, fresh.inputs["row"]).argmax(axis=1) == fresh.labels).mean()
        for one in ("spec-incumbent.yaml", file)
    )
    assert after > before + 0.02
    probe = load_probe(result.folder, load_spec(result.folder / file), "reweighted")
    np.testing.assert_allclose(probe.expected, served(file, result.folder, probe.inputs["row"]), atol=1e-6)
    again = tune_fusion(
        load_spec(result.folder / file), result.folder, solve, judge, "accuracy", runs=tmp_path / "runs"
    )
    assert again.choice.alternatives["incumbent"].value == pytest.approx(found["reweighted"].value)


def test_a_rule_that_is_best_because_of_its_form_is_recommended_with_its_weights(tmp_path):
    # Members that each know the truth up to one of two classes: together Dempster's rule, or a product, knows it.
    def rows(count, seed):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 4, count)
        logits = 2.0 * np.eye(4)[labels] + random.normal(size=(3, count, 4)) * np.array([1.0, 1.0, 4.0])[:, None, None]
        said = softmax(logits, axis=2).astype(np.float32)
        return Labelled({"row": said.transpose(1, 0, 2)}, labels, tuple("wxyz"))

    spec = spec_of(tmp_path, 4, {"rule": "dempster_shafer"}, classes=list("wxyz"))
    result = tune_fusion(spec, tmp_path, rows(300, 0), rows(300, 1), runs=tmp_path / "runs")
    found = result.choice.alternatives
    assert found["reweighted"].value < found["incumbent"].value - 0.05
    assert found["reweighted"].value < found["tuned"].value
    weights = result.choice.recipes["reweighted"].weights
    assert weights is not None
    assert all(0 <= one <= 1 for one in weights.values())
    assert weights["c"] < min(weights["a"], weights["b"])


def moments(count, seed):
    """Means and variances: the third is the best and says so, the others are surer than they should be."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 2, count)
    means = truth[:, None] + random.normal(size=(count, 3)) * np.array([1.5, 1.5, 0.5])
    variances = np.broadcast_to(np.array([0.5, 0.5, 0.25]), means.shape)
    return Labelled({"row": np.stack([means, variances], axis=2).astype(np.float32)}, truth, ())


def test_members_that_give_means_with_variances_are_tuned_and_served(tmp_path):
    spec, fresh = spec_of(tmp_path, 2, {"rule": "inverse_variance"}), moments(2000, 2)
    result = tune_fusion(spec, tmp_path, moments(300, 0), moments(300, 1), runs=tmp_path / "runs")
    assert result.choice.metric == "crps"
    assert {*NAMES, "uniform", "precision", "incumbent", "tuned", "tuned_precision"} == set(result.choice.recipes)

    def nll(one):
        mean, variance = served(one, result.folder, fresh.inputs["row"]).T
        return -norm.logpdf(fresh.labels, mean, np.sqrt(variance)).mean()

    for own, rule, before in (
        ("tuned", "mixture_moments", "uniform"),
        ("tuned_precision", "inverse_variance", "incumbent"),
    ):
        assert result.choice.alternatives[own].value < result.choice.alternatives[before].value
        file = "spec.yaml" if result.choice.recommended == own else f"spec-{own}.yaml"
        assert load_spec(result.folder / file).output_fusion.rule == rule
        assert nll(file) < nll(f"spec-{before}.yaml")


def test_members_that_give_more_numbers_than_there_are_true_values_are_told_apart(tmp_path):
    mean = spec_of(tmp_path, 2, {"rule": "mean"})
    with pytest.raises(PredictionError, match=r"50 rows and 1 columns; .* variances where rule: mixture_moments"):
        tune_fusion(mean, tmp_path, moments(50, 0), moments(50, 1), runs=tmp_path / "runs")
    rows = moments(50, 0)
    given = Outputs(NAMES, rows.inputs["row"].transpose(1, 0, 2), rows.labels)
    with pytest.raises(PredictionError, match="members give 2 numbers a row, and labels 1; let members give 1, or say"):
        choose(given, given)
