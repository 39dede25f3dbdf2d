"""What is served is fitted again on all rows once it was judged; what was judged stays as it is."""

import json

import numpy as np
import pytest
from scipy.optimize import nnls

from quorate.deployments import load_spec
from quorate.deployments.engine.revision import build_revision
from quorate.tuning import Outputs, Predictions, choose, run_in_process, tune_fusion, tune_predictions
from quorate.tuning.alternatives.base import joined
from quorate.tuning.alternatives.pools import LogPool
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.runs.fitted_before import fitted_before
from quorate.tuning.runs.probe import load_probe
from quorate.tuning.workflows.guarantees import Promised
from tests.tuning.support.hedged import hedged

NAMES = ("a", "b", "c")


def outputs(rows, seed):
    probs, labels = hedged(rows, seed)
    return Outputs(NAMES, probs.astype(np.float32), labels)


@pytest.fixture(scope="module")
def choice():
    return choose(outputs(300, 0), outputs(300, 1))


def test_the_verdict_is_the_same_and_what_is_served_is_what_all_rows_give(choice):
    solve, judge = outputs(300, 0), outputs(300, 1)
    before = choose(solve, judge, refit=False)
    assert {**choice.to_dict(), "refit": None} == {**before.to_dict(), "refit": None}
    assert (before.served, before.refit) == (before.recipes, "")
    assert choice.recipes["log_pool"].weights == before.recipes["log_pool"].weights
    every = Outputs(NAMES, np.concatenate([solve.probs, judge.probs], axis=1), np.append(solve.labels, judge.labels))
    assert choice.served["log_pool"].weights == LogPool().fit(every, 0).weights
    assert set(choice.refitted) == {"calibrated_single", "tuned", "log_pool", "calibrated", "stacking"}
    assert choice.served["uniform"] == before.recipes["uniform"]


def test_the_report_says_in_words_that_the_figures_are_those_of_half_of_the_rows(choice):
    assert choice.recommended in choice.refitted
    sentence = f"{choice.recommended} is served fitted again on all 600 rows, those that judged among them; figures"
    assert any(line.startswith(sentence) for line in choice.table().lines)
    found = choice.to_dict()["refit"]
    assert (found["rows"], found["why_not"], found["alternatives"]) == (600, None, list(choice.refitted))


def test_weights_for_least_squares_on_all_rows_are_those_of_scipy():
    random = np.random.default_rng(0)
    truth = random.normal(size=4000)
    said = (truth + random.normal(0, [[0.5], [0.7], [2.0]], (3, 4000))).astype(np.float32)
    halves = [Outputs(NAMES, said[:, part, None], truth[part]) for part in (slice(0, 2000), slice(2000, None))]
    weights = choose(*halves, metric="rmse").served["tuned"].weights
    assert weights is not None
    large = 1e4  # a row that says that they sum to one
    best, _ = nnls(np.vstack([said.T.astype(float), np.full(3, large)]), np.append(truth, large))
    np.testing.assert_allclose([weights[name] for name in NAMES], best, atol=5e-3)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"promised": Promised(0.9)}, "coverage is promised from judging rows"),
        ({"risk": Risk(max_error=0.3)}, "what answers may lose was tested on judging rows"),
    ],
)
def test_what_is_promised_from_judging_rows_is_not_fitted_on_them(tmp_path, asked, why):
    probs, labels = hedged(600, 3)
    rows = Predictions(NAMES, ("x", "y"), probs.astype(np.float32), labels)
    result = tune_predictions(rows, runs=tmp_path, **asked)
    assert result.choice.served == result.choice.recipes
    assert f"served as judged, not fitted again on all rows: {why}" in str(result)
    plain = tune_predictions(rows, runs=tmp_path, refit=False, **asked)
    assert plain.choice.recipes["tuned"].weights == result.choice.recipes["tuned"].weights


def test_solving_rows_that_are_of_another_kind_are_not_fitted_on_with_the_others():
    choice = choose(outputs(300, 0), outputs(300, 1), pool=False)
    assert (dict(choice.refitted), choice.not_refitted) == ({}, "solving rows are not of one kind with judging rows")


def _two_members(right, labels):
    """Outputs of members that say this, (2, N), of the true class of two."""
    probs = np.where(labels[:, None] == np.arange(2), right[..., None], 1 - right[..., None])
    return Outputs(("a", "b"), probs.astype(np.float32), labels)


def test_an_ensemble_that_comes_out_as_one_member_on_all_rows_stays_as_it_was_judged():
    labels = np.arange(4000) % 2
    on_solving, on_judging = np.full((2, 100), 0.5), np.full((2, 4000), 0.5)
    on_solving[0, :50] = on_solving[1, 50:] = 0.9  # one is as good as the other
    on_judging[0] = 0.98
    halves = [_two_members(on_solving, labels[:100]), _two_members(on_judging, labels)]
    choice = choose(*halves)
    assert len(choice.recipes["tuned"].asked) == 2
    assert "tuned" not in choice.refitted


def test_lists_of_two_halves_are_joined_as_wide_as_the_longest():
    first = Outputs(("a",), np.ones((1, 2, 3), np.float32), np.zeros((2, 3)), lists=True)
    second = Outputs(("a",), np.ones((1, 1, 5), np.float32), np.zeros((1, 5)), lists=True)
    both = joined(first, second)
    assert (both.probs.shape, both.labels.shape) == ((1, 3, 5), (3, 5))
    assert np.isnan(both.labels).sum(axis=1).tolist() == [2, 2, 0]


def test_what_the_run_deploys_and_its_probe_are_what_was_fitted_again(tiny, tmp_path):
    splits = tiny.splits
    result = tune_fusion(tiny.spec, tiny.folder, splits.validation, splits.test, runs=tmp_path)
    choice, name = result.choice, result.choice.recommended
    assert name in choice.refitted
    assert choice.refit in (result.folder / "report.html").read_text()
    report, rows = json.loads((result.folder / "report.json").read_bytes()), len(splits.test) + len(splits.validation)
    assert report["refit"]["rows"] == rows
    probe = load_probe(result.folder, result.spec)
    said = np.stack([run_in_process(tiny.spec.job(m), tiny.folder, probe.inputs) for m in tiny.spec.members])
    fused, judged = (some[name].fuse(tuple(tiny.spec.members), said) for some in (choice.served, choice.recipes))
    np.testing.assert_allclose(probe.expected, fused, atol=1e-3)
    assert np.abs(fused - judged).max() > 2e-3  # more than a probe lets pass: what was judged would be refused
    revision = build_revision(load_spec(result.folder / "spec.yaml"), result.folder)
    asked = said[[[*tiny.spec.members].index(one) for one in revision.asked]]
    np.testing.assert_allclose(revision.fuse(asked, np.ones(asked.shape[:2], bool)).values, fused, atol=1e-6)
    (flattered,) = fitted_before(result.spec, result.folder, splits.test)
    assert "the spec was fitted on rows that judge here" in flattered
    assert fitted_before(result.spec, result.folder, splits.train) == []
    assert fitted_before(tiny.spec, tiny.folder, splits.test) == []
