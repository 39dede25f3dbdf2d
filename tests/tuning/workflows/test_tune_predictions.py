import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import softmax
from scipy.stats import norm

import quorate
from quorate.tuning import Predictions, Recipe, judge
from quorate.tuning.errors import DataError, PredictionError, TuningError
from quorate.tuning.workflows.guarantees import Promised
from quorate.tuning.workflows.tune_predictions import tune_predictions

pytestmark = pytest.mark.long


def members(rows, seed=0, noises=(1.0, 1.0, 1.0)):
    random = np.random.default_rng(seed)
    truth = random.normal(0, 1.5, (rows, 3))
    labels = (softmax(truth, axis=1).cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    return np.stack([softmax(truth + random.normal(0, noise, truth.shape), axis=1) for noise in noises]), labels


def given(rows, seed=0, **columns):
    probs, labels = members(rows, seed)
    return Predictions(("net", "svm", "rf"), ("0", "1", "2"), probs, labels, **columns)


def test_out_of_fold_matrices_are_enough_to_ask_the_question(tmp_path):
    probs, labels = members(800)
    columns = {f"{name}/{c}": probs[m, :, c] for m, name in enumerate(("net", "svm", "rf")) for c in range(3)}
    path = tmp_path / "oof.parquet"
    pd.DataFrame({"label": labels, **columns}).to_parquet(path)
    result = quorate.tune(predictions=path, runs=tmp_path / "runs")
    assert result.choice.decision == "ensemble"
    report = json.loads((result.folder / "report.json").read_text())
    assert report["recommended"] == result.choice.recommended
    assert report["rows_left_out"] == 0
    fusion = yaml.safe_load((result.folder / f"fusion-{result.choice.recommended}.yaml").read_text())["fusion"]
    assert set(fusion["members"]) <= {"net", "svm", "rf"}
    by_member = quorate.tune(predictions=dict(zip(("net", "svm", "rf"), probs, strict=True)), labels=labels,
                             runs=tmp_path / "runs")  # fmt: skip
    assert by_member.choice.to_dict() == result.choice.to_dict()


def test_a_fusion_of_the_predictions_is_judged_beside_the_others_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = judge(given(300), "accuracy", incumbent=Recipe("borda", ("net", "svm", "rf")))
    assert {"incumbent", "reweighted"} <= set(found.choice.alternatives)
    assert found.choice.recipes["reweighted"].rule == "borda"
    assert len(found.solve) + len(found.judge) + found.left_out == 300
    assert not list(tmp_path.iterdir())


def test_a_split_of_their_own_is_kept_to(tmp_path):
    judged = np.arange(300) % 3 == 0
    result = tune_predictions(given(300, judged=judged), runs=tmp_path)
    assert (result.choice.rows, result.choice.evidence_rows) == (100, 300)


def test_rows_that_a_member_did_not_answer_or_that_do_not_count_are_left_out(tmp_path):
    predictions = given(300, weights=np.where(np.arange(300) < 20, 0.0, 1.0))
    predictions.outputs[0, 25:30] = np.nan
    result = tune_predictions(predictions, runs=tmp_path)
    assert result.rows_left_out == 25
    assert result.choice.evidence_rows == 275


def test_a_member_that_was_trained_on_the_solving_rows_is_said_and_its_solving_rows_are_no_evidence(tmp_path):
    probs, labels = members(400)
    judged = np.arange(400) >= 200
    probs[0, :200] = 0.01
    probs[0, np.arange(200), labels[:200]] = 0.98
    result = tune_predictions(Predictions(("net", "svm", "rf"), ("0", "1", "2"), probs, labels, judged), runs=tmp_path)
    assert any("net" in sentence and "trained on the former" in sentence for sentence in result.warnings)
    assert result.choice.evidence_rows == 200
    assert result.choice.recommended != "net"


def test_another_mix_of_classes_in_the_judging_rows_is_said(tmp_path):
    predictions = given(600)
    judged = (predictions.labels == 0) | (np.arange(600) % 5 == 0)
    shifted = Predictions(predictions.names, predictions.classes, predictions.outputs, predictions.labels, judged)
    result = tune_predictions(shifted, runs=tmp_path)
    assert any(sentence.startswith("classes are mixed otherwise") for sentence in result.warnings)
    assert not tune_predictions(predictions, runs=tmp_path).warnings


def test_rows_of_a_group_stay_together_and_count_as_one_draw(tmp_path):
    result = tune_predictions(given(400, groups=np.repeat(np.arange(80), 5)), runs=tmp_path)
    assert (result.choice.evidence_rows, result.choice.groups) == (400, 80)
    assert "400 rows in 80 groups" in result.choice.verdict


def test_numbers_that_are_no_probabilities_are_a_sentence(tmp_path):
    predictions = given(60)
    predictions.outputs[1] *= 3
    with pytest.raises(PredictionError, match=r"predictions of svm: .*give probabilities that sum to one"):
        tune_predictions(predictions, runs=tmp_path / "runs")
    with pytest.raises(TuningError, match="predictions: a spec or data beside them"):
        quorate.tune("spec.yaml", "rows.npz", predictions="oof.csv")  # type: ignore[call-overload]
    assert not (tmp_path / "runs").exists()


def test_values_are_pooled_by_least_squared_error(tmp_path):
    random = np.random.default_rng(0)
    truth = random.normal(size=600)
    columns = {name: truth + random.normal(0, noise, 600) for name, noise in (("a", 0.5), ("b", 0.7), ("c", 2.0))}
    pd.DataFrame({"label": truth, **columns}).to_csv(tmp_path / "values.csv", index=False)
    result = quorate.tune(predictions=tmp_path / "values.csv", runs=tmp_path / "runs")
    choice = result.choice
    assert (choice.metric, choice.recommended, choice.decision) == ("rmse", "tuned", "ensemble")
    # Independent errors: the best weights go by one over the variance, and so does the error that is left.
    precision = 1 / np.array([0.25, 0.49, 4.0])
    weights = choice.recipes["tuned"].weights
    assert weights is not None
    np.testing.assert_allclose(list(weights.values()), precision / precision.sum(), atol=0.06)
    assert choice.alternatives["tuned"].value == pytest.approx(precision.sum() ** -0.5, rel=0.1)
    assert choice.alternatives["constant"].value == pytest.approx(1.0, rel=0.1)
    arrays = {name: columns[name] for name in "abc"}
    in_python = quorate.tune(predictions=arrays, labels=truth, runs=tmp_path / "runs")
    assert in_python.choice.alternatives["tuned"].value == pytest.approx(choice.alternatives["tuned"].value, rel=1e-5)
    with pytest.raises(DataError, match="the index of each row's class as an integer"):
        quorate.tune(predictions={"a": np.ones((600, 2))}, labels=truth, runs=tmp_path / "runs")
    by_size = quorate.tune(predictions=tmp_path / "values.csv", metric="mae", runs=tmp_path / "runs")
    assert by_size.choice.alternatives["median"].kind == "ensemble"
    with pytest.raises(TuningError, match="'log_loss' of values; give one of rmse, mae"):
        quorate.tune(predictions=tmp_path / "values.csv", metric="log_loss", runs=tmp_path / "runs")


def test_what_is_promised_holds_on_new_rows_for_every_set_of_members(tmp_path):
    result = tune_predictions(given(8000), promised=Promised(0.9), runs=tmp_path)
    fresh, labels = members(20_000, seed=1)
    found = result.to_dict()["conformal"]
    assert set(found) == set(result.choice.recipes)
    for name in ("tuned", "stacking"):
        recipe = result.choice.recipes[name]
        thresholds = yaml.safe_load((result.folder / f"fusion-{name}.yaml").read_text())["fusion"]["conformal"]
        sets = {frozenset(one["members"]) for one in thresholds["thresholds"]}
        assert sets == {frozenset(some) for size in (1, 2, 3) for some in combinations(("net", "svm", "rf"), size)}
        for one in thresholds["thresholds"]:
            fused = recipe.fuse(("net", "svm", "rf"), fresh, one["members"])
            covered = (1 - fused[np.arange(len(labels)), labels] <= one["threshold"]).mean()
            assert covered == pytest.approx(0.9, abs=0.02)  # as sure as 4,000 rows can be
        assert found[name]["covered"] == pytest.approx(0.9, abs=0.02)
        assert 1 <= found[name]["size"] < 3
    assert "hold the truth with probability 0.9" in str(result)


def test_values_are_promised_as_intervals(tmp_path):
    random = np.random.default_rng(0)
    truth = random.normal(0, 2, 2000)
    said = (truth + random.normal(0, 1, (2, 2000)))[:, :, None]
    predictions = Predictions(("a", "b"), (), said, truth)
    result = tune_predictions(predictions, promised=Promised(0.8), runs=tmp_path)
    recipe = result.choice.recipes[result.choice.recommended]
    # The error of the mean of two is normal with variance a half (and a little less, drawn towards neither).
    assert recipe.guarantee is not None
    reach = recipe.guarantee.thresholds[("a", "b")]
    assert reach == pytest.approx(norm.ppf(0.9) * 0.5**0.5, rel=0.1)
    assert "intervals" in str(result)


def test_what_cannot_be_promised_is_said(tmp_path):
    with pytest.raises(TuningError, match="give a share"):
        Promised(1.5)
    with pytest.raises(TuningError, match="give 99 rows"):
        tune_predictions(given(60), promised=Promised(0.99), runs=tmp_path)
    with pytest.raises(TuningError, match="leave the weights out"):
        tune_predictions(given(60, weights=np.linspace(1, 2, 60)), promised=Promised(0.8), runs=tmp_path)
