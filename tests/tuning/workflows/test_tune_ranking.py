"""Members that rank: NDCG of lists, from predictions and from a table to a spec that serves what the report says."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import zscore
from sklearn.datasets import load_digits
from sklearn.metrics import ndcg_score

import quorate
from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.tuning import Labelled, run_in_process, tune_fusion
from quorate.tuning.errors import DataError, TuningError
from quorate.tuning.runs.probe import load_probe

pytestmark = pytest.mark.long

MEMBERS = """
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

KINDS = {"ridge": Ridge(100), "near": KNeighborsRegressor(20), "trees": ExtraTreesRegressor(20, random_state=0)}


def make(kind):
    rows, digits = load_digits(return_X_y=True)
    model = KINDS[kind].fit(rows[:300], np.select([digits[:300] == 8, np.isin(digits[:300], (3, 9))], [3.0, 1.0]))
    return lambda row: model.predict(row).astype(np.float32)[:, None]
"""
KINDS = ("ridge", "near", "trees")


def spec_of(folder, rule="list_standard_scores"):
    (folder / "my_rankers.py").write_text(MEMBERS)
    members = {
        kind: {"model": "my_rankers:make", "config": {"kind": kind}, "inputs": ["row"], "output": "values"}
        for kind in KINDS
    }
    return parse_spec(
        {
            "name": "eights",
            "task": "ranking",
            "inputs": {"row": {"datatype": "FP32", "shape": [64]}},
            "members": members,
            "fusion": {"rule": rule},
        }
    )


def lists():
    """Digits in lists of 8 to 12: how much each looks like an eight, in the order in which they were written."""
    rows, digits = load_digits(return_X_y=True)
    rows, digits = rows[300:], digits[300:]
    relevance = np.select([digits == 8, np.isin(digits, (3, 9))], [3.0, 1.0])
    queries = np.repeat(np.arange(200), np.arange(200) % 5 + 8)[: len(rows)]
    return Labelled({"row": rows.astype(np.float32)}, relevance, (), groups=queries)


def by_query(data, scores, top):
    """Mean of scikit-learn's NDCG; of a list with nothing relevant it is 0 as well."""
    found = []
    for query in np.unique(data.groups):
        own = data.groups == query
        found.append(ndcg_score(data.labels[own][None], scores[own][None], k=top))
    return np.mean(found)


def test_every_alternative_serves_what_the_report_says(tmp_path):
    data = lists()
    judged = data.groups % 2 == 1
    solve, judge = data.rows(~judged), data.rows(judged)
    result = tune_fusion(spec_of(tmp_path), tmp_path, solve, judge, "ndcg@5", runs=tmp_path / "runs", refit=False)
    report = json.loads((result.folder / "report.json").read_text())
    assert {*KINDS, "uniform", "reciprocal_rank", "incumbent", "tuned", "tuned_ranks"} == set(result.choice.recipes)
    outputs_of = {kind: run_in_process(spec_of(tmp_path).job(kind), tmp_path, judge.inputs) for kind in KINDS}
    for name in result.choice.recipes:
        file = "spec.yaml" if name == result.choice.recommended else f"spec-{name}.yaml"
        revision = build_revision(load_spec(result.folder / file), result.folder)
        outputs, scores = np.stack([outputs_of[kind] for kind in revision.asked]), np.zeros(len(judge))
        for query in np.unique(judge.groups):  # as requests come
            own = judge.groups == query
            scores[own] = revision.fuse(outputs[:, own], np.ones((len(outputs), own.sum()), bool)).values[:, 0]
        assert by_query(judge, scores, 5) == pytest.approx(report["alternatives"][name]["ndcg@5"], rel=1e-6)
    assert report["alternatives"]["no_order"]["ndcg@5"] == pytest.approx(by_query(judge, np.zeros(len(judge)), 5))
    assert result.choice.rows == len(np.unique(judge.groups))  # a list is what is drawn
    assert result.gap is None
    probe = load_probe(result.folder, result.spec)
    served = build_revision(result.spec, result.folder)
    outputs = np.stack([run_in_process(result.spec.job(k), result.folder, probe.inputs) for k in served.asked])
    np.testing.assert_allclose(served.fuse(outputs, np.ones(outputs.shape[:2], bool)).values, probe.expected, atol=1e-5)


def test_a_table_with_a_column_of_queries_is_all_it_takes(tmp_path):
    data = lists()
    table = pd.DataFrame({"row": list(data.inputs["row"]), "label": data.labels, "query": data.groups})
    table.to_parquet(tmp_path / "rows.parquet")
    result = quorate.tune(
        spec_of(tmp_path), tmp_path / "rows.parquet", groups="query", folder=tmp_path, runs=tmp_path / "runs"
    )
    assert (result.choice.metric, result.choice.decision) == ("ndcg", "ensemble")
    with pytest.raises(TuningError, match="groups: none for the task ranking"):
        quorate.tune(spec_of(tmp_path), tmp_path / "rows.parquet", folder=tmp_path, runs=tmp_path / "runs")
    with pytest.raises(TuningError, match="scores of a ranking"):
        quorate.tune(spec_of(tmp_path), tmp_path / "rows.parquet", groups="query", coverage=0.9, folder=tmp_path,
                     runs=tmp_path / "runs")  # fmt: skip


def oof(folder, **more):
    random = np.random.default_rng(0)
    queries = np.repeat(np.arange(240), np.arange(240) % 6 + 5)
    hidden = random.normal(size=len(queries))
    columns = {"label": np.clip(np.floor(hidden + 1), 0, 3), "query": queries}
    for name, noise, scale in (("a", 0.7, 1), ("b", 1.0, 100), ("c", 4.0, 1000)):  # c is loud and knows little
        columns[name] = scale * (hidden + random.normal(0, noise, len(queries)))
    order = random.permutation(len(queries))
    table = pd.DataFrame({**columns, **more}).iloc[order]
    table.to_parquet(folder / "oof.parquet")
    return folder / "oof.parquet", table


def test_predicted_scores_are_fused_list_by_list(tmp_path):
    path, table = oof(tmp_path)
    table["split"] = np.where(table["query"] % 2, "judge", "solve")
    table.to_parquet(path)
    result = quorate.tune(predictions=path, metric="ndcg@5", runs=tmp_path / "runs", refit=False)
    assert (result.choice.decision, result.choice.recommended) == ("ensemble", "tuned")
    assert result.rows_left_out == 0
    weights = yaml.safe_load((result.folder / "fusion-tuned.yaml").read_text())["fusion"]["weights"]
    assert weights["a"] > weights["b"] > weights["c"]
    found = []
    for _, own in table[table["split"] == "judge"].groupby("query"):
        scores = sum(weights[name] * zscore(own[name].to_numpy()) for name in "abc")
        found.append(ndcg_score(own["label"].to_numpy()[None], scores[None], k=5))
    assert result.choice.alternatives["tuned"].value == pytest.approx(np.mean(found), rel=1e-6)
    assert result.choice.rows == 120


def test_a_query_on_both_sides_is_refused(tmp_path):
    path, table = oof(tmp_path)
    table["split"] = np.where(np.arange(len(table)) % 2, "judge", "solve")
    table.to_parquet(path)
    with pytest.raises(DataError, match="is on both sides"):
        quorate.tune(predictions=path, runs=tmp_path / "runs")
