"""Members that predict quantiles: from predictions and from a table to a spec that serves what the report says."""

import json

import numpy as np
import orjson
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_pinball_loss

import quorate
from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.tuning import Labelled, Predictions, run_in_process, tune_fusion
from quorate.tuning.errors import DataError, PredictionError, TuningError
from quorate.tuning.workflows.guarantees import Promised
from quorate.tuning.workflows.tune_predictions import tune_predictions

pytestmark = pytest.mark.long

LEVELS = (0.1, 0.5, 0.9)
MEMBERS = """
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import QuantileRegressor
from sklearn.neighbors import NearestNeighbors

LEVELS = (0.1, 0.5, 0.9)


def make(kind):
    rows, values = load_diabetes(return_X_y=True)
    rows, values = rows[:200], values[:200]
    if kind == "near":
        near = NearestNeighbors(n_neighbors=30).fit(rows)
        return lambda row: np.quantile(values[near.kneighbors(row)[1]], LEVELS, axis=1).T.astype(np.float32)
    if kind == "linear":
        models = [QuantileRegressor(quantile=q, alpha=0.01).fit(rows, values) for q in LEVELS]
    else:
        models = [
            GradientBoostingRegressor(loss="quantile", alpha=q, n_estimators=40, random_state=0).fit(rows, values)
            for q in LEVELS
        ]
    return lambda row: np.stack([model.predict(row) for model in models], axis=1).astype(np.float32)
"""
KINDS = ("linear", "boosted", "near")


def spec_of(folder, **more):
    (folder / "my_quantiles.py").write_text(MEMBERS)
    members = {
        kind: {"model": "my_quantiles:make", "config": {"kind": kind}, "inputs": ["row"], "output": "values"}
        for kind in KINDS
    }
    return parse_spec(
        {
            "name": "progression",
            "task": "quantiles",
            "quantiles": list(LEVELS),
            "inputs": {"row": {"datatype": "FP32", "shape": [10]}},
            "members": members,
            "fusion": {"rule": "quantile_average", **more},
        }
    )


def halves():
    rows, values = load_diabetes(return_X_y=True)
    data = Labelled({"row": rows.astype(np.float32)}, values, ())
    return data.rows(slice(200, 320)), data.rows(slice(320, 442))


def loss(truth, fused):
    return np.mean([mean_pinball_loss(truth, q, alpha=a) for q, a in zip(fused.T, LEVELS, strict=True)])


def test_every_alternative_serves_what_the_report_says_and_no_quantiles_cross(tmp_path):
    solve, judge = halves()
    result = tune_fusion(spec_of(tmp_path), tmp_path, solve, judge, runs=tmp_path / "runs", refit=False)
    report = json.loads((result.folder / "report.json").read_text())
    assert report["metric"] == "pinball"
    assert {*KINDS, "uniform", "incumbent", "median", "tuned"} == set(result.choice.recipes)
    outputs_of = {kind: run_in_process(spec_of(tmp_path).job(kind), tmp_path, judge.inputs) for kind in KINDS}
    for name in result.choice.recipes:
        file = "spec.yaml" if name == result.choice.recommended else f"spec-{name}.yaml"
        spec = load_spec(result.folder / file)
        assert spec.quantiles == LEVELS
        revision = build_revision(spec, result.folder)
        outputs = np.stack([outputs_of[kind] for kind in revision.asked])
        fused = revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values
        assert (np.diff(fused, axis=1) >= 0).all()
        assert loss(judge.labels, fused) == pytest.approx(report["alternatives"][name]["pinball"], rel=1e-5)
    floor = np.quantile(solve.labels, LEVELS, method="inverted_cdf")
    assert report["alternatives"]["constant"]["pinball"] == pytest.approx(
        loss(judge.labels, np.tile(floor, (len(judge), 1))), rel=1e-5
    )
    assert result.gap is not None
    assert 0 <= result.gap < 0.5
    assert result.outer is not None
    assert result.outer.sentence() in str(result)


def test_served_intervals_are_conformalized_quantiles(tmp_path):
    solve, judge = halves()
    result = tune_fusion(
        spec_of(tmp_path), tmp_path, solve, judge, "crps", runs=tmp_path / "runs", promised=Promised(0.8)
    )
    spec = load_spec(result.folder / "spec.yaml")
    revision = build_revision(spec, result.folder)
    outputs = np.stack([run_in_process(spec.job(kind), result.folder, judge.inputs) for kind in revision.asked])
    there = np.ones(outputs.shape[:2], bool)
    fused, conformal = revision.fuse(outputs, there).values, revision.graph.output.conformal
    assert conformal is not None
    intervals = np.array(orjson.loads(str(conformal.parameters(fused, there)["prediction_intervals"])))
    # Romano, Patterson and Candes 2019 by their definition: the score of rank .8 (122 + 1), rounded up.
    scores = np.maximum(fused[:, 0] - judge.labels, judge.labels - fused[:, 2])
    reach = np.sort(scores)[99 - 1]
    np.testing.assert_allclose(intervals[:, 0], fused[:, 0] - reach, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(intervals[:, 1], fused[:, 2] + reach, rtol=1e-4, atol=1e-3)


def table(folder, rows=900, **more):
    """What three members of known spread say of normal values."""
    random = np.random.default_rng(0)
    middle = random.normal(0, 2, rows)
    truth = middle + random.normal(0, 1, rows)
    columns = {"label": truth}
    for name, off, spread in (("sharp", 0.3, 0.6), ("wide", 0.3, 2.0), ("noisy", 1.5, 1.0)):
        seen = middle + random.normal(0, off, rows)
        columns |= {f"{name}/{level}": seen + spread * norm.ppf(level) for level in LEVELS}
    pd.DataFrame({**columns, **more}).to_parquet(folder / "oof.parquet")
    return folder / "oof.parquet"


def test_predicted_quantiles_are_told_by_their_columns_and_weighed_by_pinball_loss(tmp_path):
    result = quorate.tune(predictions=table(tmp_path), runs=tmp_path / "runs")
    assert (result.choice.metric, result.choice.decision, result.choice.recommended) == ("pinball", "ensemble", "tuned")
    weights = result.choice.recipes["tuned"].weights
    assert weights is not None
    assert weights["noisy"] < 0.15  # sharp and wide average to about the true spread
    assert (result.folder / "fusion-tuned.yaml").read_text().count("quantile_average") == 1
    assert result.outer is not None
    assert result.outer.held == pytest.approx(0.8, abs=0.06)
    assert (result.outer.low, result.outer.high) == (0.1, 0.9)
    by_score = quorate.tune(predictions=table(tmp_path), metric="crps", runs=tmp_path / "runs")
    assert by_score.choice.alternatives["uniform"].value == pytest.approx(
        2 * result.choice.alternatives["uniform"].value
    )


def test_intervals_of_quantiles_hold_what_they_promise_on_new_rows(tmp_path):
    random = np.random.default_rng(0)

    def rows(count):
        spread = random.uniform(0.5, 2, count)  # quantiles that know it, each too wide by half
        truth = random.normal(0, spread)
        said = 1.5 * spread[:, None] * norm.ppf(LEVELS)
        return truth, np.stack([said, said + 0.1]).astype(np.float32)

    truth, said = rows(4000)
    result = tune_predictions(
        Predictions(("a", "b"), (), said, truth, levels=LEVELS), promised=Promised(0.9), runs=tmp_path
    )
    recipe = result.choice.recipes["uniform"]
    assert recipe.guarantee is not None
    reach = recipe.guarantee.thresholds[("a", "b")]
    assert float(reach) < 0  # drawn together: they held more than nine in ten
    fresh, others = rows(20_000)
    fused = recipe.fuse(("a", "b"), others)
    held = (fused[:, 0] - reach <= fresh) & (fresh <= fused[:, 2] + reach)
    assert held.mean() == pytest.approx(0.9, abs=0.02)


def test_what_are_no_quantiles_is_said(tmp_path):
    solve, judge = halves()
    spec = spec_of(tmp_path)
    fewer = spec.model_copy(update={"quantiles": (0.1, 0.9)})
    with pytest.raises(PredictionError, match="120 rows and 2 columns"):
        tune_fusion(fewer, tmp_path, solve, judge, runs=tmp_path / "runs")
    two = Labelled(solve.inputs, np.stack([solve.labels] * 2, axis=1), ())
    with pytest.raises(TuningError, match="several values a row for the task quantiles"):
        tune_fusion(spec, tmp_path, two, judge, runs=tmp_path / "runs")
    with pytest.raises(TuningError, match="rmse' of quantiles; give one of pinball, crps"):
        tune_fusion(spec, tmp_path, solve, judge, "rmse", runs=tmp_path / "runs")
    pd.DataFrame({"label": [1.0, 2.0], "a/0.1": [0.0, 1.0], "b/0.9": [2.0, 3.0]}).to_csv(tmp_path / "odd.csv")
    with pytest.raises(DataError):
        quorate.tune(predictions=tmp_path / "odd.csv", runs=tmp_path / "runs")
