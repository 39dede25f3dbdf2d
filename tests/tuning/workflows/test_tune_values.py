"""Members that predict values: regression on real rows, from a table to a spec that serves what the report says."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, r2_score, root_mean_squared_error

import quorate
from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.tuning import Labelled, run_in_process, tune_fusion
from quorate.tuning.errors import DataError, TuningError

pytestmark = pytest.mark.long

MEMBERS = """
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

KINDS = {"ridge": Ridge(0.1), "forest": RandomForestRegressor(30, random_state=0), "near": KNeighborsRegressor(9)}


def make(kind):
    rows, values = load_diabetes(return_X_y=True)
    model = KINDS[kind].fit(rows[:200], values[:200])
    return lambda row: model.predict(row).astype(np.float32)[:, None]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_regressors.py").write_text(MEMBERS)
    return tmp_path


def spec_of(rule="mean", **more):
    kinds = ("ridge", "forest", "near")
    return parse_spec(
        {
            "name": "diabetes",
            "inputs": {"row": {"datatype": "FP32", "shape": [10]}},
            "members": {
                kind: {"model": "my_regressors:make", "config": {"kind": kind}, "inputs": ["row"], "output": "values"}
                for kind in kinds
            },
            "fusion": {"rule": rule, **more},
        }
    )


def halves():
    rows, values = load_diabetes(return_X_y=True)
    data = Labelled({"row": rows.astype(np.float32)}, values, ())
    return data.rows(slice(200, 320)), data.rows(slice(320, 442))


def pinball(truth, fused):
    return mean_pinball_loss(truth, fused, alpha=0.8)


@pytest.mark.parametrize(
    ("metric", "oracle"),
    [
        ("rmse", root_mean_squared_error),
        ("mae", mean_absolute_error),
        ("r2", r2_score),
        ("pinball@0.8", pinball),
        ("crps", mean_absolute_error),
    ],
)
def test_every_alternative_serves_what_the_report_says(folder, metric, oracle):
    solve, judge = halves()
    result = tune_fusion(spec_of(), folder, solve, judge, metric, runs=folder / "runs", refit=False)
    report = json.loads((result.folder / "report.json").read_text())
    assert {"ridge", "forest", "near", "uniform", "incumbent", "median", "tuned"} == set(result.choice.recipes)
    for name in result.choice.recipes:
        file = "spec.yaml" if name == result.choice.recommended else f"spec-{name}.yaml"
        revision = build_revision(load_spec(result.folder / file), result.folder)
        spec = load_spec(result.folder / file)
        outputs = np.stack([run_in_process(spec.job(m), folder, judge.inputs) for m in revision.asked])
        fused = revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values
        assert oracle(judge.labels, fused[:, 0]) == pytest.approx(report["alternatives"][name][metric], rel=1e-5)
    assert (result.gap is None) == (metric == "r2")  # no proof of it
    assert 0 <= (result.gap or 0) < 5
    assert (result.folder / "report.html").exists()


def test_a_table_of_true_values_is_all_it_takes(folder):
    rows, values = load_diabetes(return_X_y=True)
    table = pd.DataFrame({"row": list(rows[200:].astype(np.float32)), "target": values[200:]})
    table.to_parquet(folder / "rows.parquet")
    result = quorate.tune(
        spec_of(), folder / "rows.parquet", folder=folder, label="target", coverage=0.8, runs=folder / "runs"
    )
    assert result.choice.metric == "rmse"
    recipe = result.choice.recipes[result.choice.recommended]
    assert recipe.guarantee is not None
    assert recipe.guarantee.checked == pytest.approx(0.8, abs=0.1)
    served = load_spec(result.folder / "spec.yaml").output_fusion
    assert served.conformal is not None
    assert served.conformal.coverage == 0.8


def test_the_incumbent_of_another_rule_is_compared(folder):
    solve, judge = halves()
    result = tune_fusion(spec_of("regression_median"), folder, solve, judge, runs=folder / "runs")
    found = result.choice.alternatives
    assert found["incumbent"].value == found["median"].value


def test_what_cannot_be_tuned_is_said(folder):
    solve, judge = halves()
    for metric in ("log_loss", "accuracy"):
        with pytest.raises(TuningError, match="of values; give one of rmse, mae, r2"):
            tune_fusion(spec_of(), folder, solve, judge, metric, runs=folder / "runs")
    odd = Labelled(solve.inputs, np.where(np.arange(len(solve)) == 3, np.nan, solve.labels), ())
    with pytest.raises(DataError, match="true value"):
        tune_fusion(spec_of(), folder, odd, judge, runs=folder / "runs")
    pd.DataFrame({"row": list(solve.inputs["row"]), "label": ["high"] * len(solve)}).to_parquet(
        folder / "words.parquet"
    )
    with pytest.raises(DataError, match="'high' in row 0"):
        quorate.tune(spec_of(), folder / "words.parquet", folder=folder, runs=folder / "runs")


def several(rows=600):
    """Two true values a row and what three members say of them, (3, rows, 2)."""
    random = np.random.default_rng(0)
    truth = random.normal(0, 1, (rows, 2))
    return truth, (truth + random.normal(0, [[[0.5]], [[0.7]], [[1.5]]], (3, rows, 2))).astype(np.float32)


def test_several_values_a_row_are_predictions_too(tmp_path):
    truth, said = several()
    columns = {f"{name}/{output}": said[m, :, k] for m, name in enumerate("abc") for k, output in enumerate("xy")}
    pd.DataFrame({"label/x": truth[:, 0], "label/y": truth[:, 1], **columns}).to_csv(tmp_path / "oof.csv", index=False)
    result = quorate.tune(predictions=tmp_path / "oof.csv", runs=tmp_path / "runs")
    assert result.choice.decision == "ensemble"
    weights = result.choice.served["tuned"].weights
    assert weights is not None
    # Independent errors: weights are as one over their variances.
    np.testing.assert_allclose([weights[name] for name in "abc"], np.array([4, 2.04, 0.44]) / 6.49, atol=0.05)
    absolute = quorate.tune(predictions=tmp_path / "oof.csv", metric="mae", runs=tmp_path / "runs")
    assert absolute.choice.alternatives["tuned"].value < absolute.choice.alternatives["uniform"].value
    promised = quorate.tune(predictions=tmp_path / "oof.csv", coverage=0.8, runs=tmp_path / "runs")
    guarantee = promised.choice.recipes["tuned"].guarantee
    assert guarantee is not None
    assert guarantee.checked == pytest.approx(0.8, abs=0.08)
    assert "hold the truth" in guarantee.sentence()
    with pytest.raises(TuningError, match="values, which have no classes"):
        quorate.tune(predictions=tmp_path / "oof.csv", coverage=0.8, by_class=True, runs=tmp_path / "runs")
    pd.DataFrame({"label/x": truth[:, 0], **columns}).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(DataError, match="'y'"):
        quorate.tune(predictions=tmp_path / "odd.csv", runs=tmp_path / "runs")


def test_members_of_several_values_are_tuned_and_served(folder):
    truth, said = several()
    (folder / "my_pairs.py").write_text("def make(member):\n    return lambda row: row[:, member]\n")
    members = {
        name: {"model": "my_pairs:make", "config": {"member": m}, "inputs": ["row"], "output": "values"}
        for m, name in enumerate("abc")
    }
    spec = parse_spec(
        {
            "name": "pairs",
            "inputs": {"row": {"datatype": "FP32", "shape": [3, 2]}},
            "members": members,
            "fusion": {"rule": "mean"},
        }
    )
    rows = said.transpose(1, 0, 2)
    pd.DataFrame({"row": [row.ravel() for row in rows], "label": list(truth)}).to_parquet(folder / "pairs.parquet")
    result = quorate.tune(spec, folder / "pairs.parquet", folder=folder, coverage=0.9, runs=folder / "runs")
    served = load_spec(result.folder / "spec.yaml")
    revision = build_revision(served, result.folder)
    outputs = np.stack([said["abc".index(name)] for name in revision.asked])
    fused = revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values
    conformal = revision.graph.output.conformal
    assert conformal is not None
    said_of_itself = conformal.parameters(fused, np.ones(outputs.shape[:2], bool))
    ends = np.array(json.loads(str(said_of_itself["prediction_intervals"])))
    assert ((ends[..., 0] <= truth) & (truth <= ends[..., 1])).all(axis=1).mean() == pytest.approx(0.9, abs=0.05)
    assert root_mean_squared_error(truth, fused) < min(root_mean_squared_error(truth, one) for one in said)
