from dataclasses import replace

import numpy as np
import pytest
import sklearn.linear_model
import sklearn.metrics
import torch

from quorate.fusion.loading import build_rule
from quorate.tuning.latency.curves import Curve, Overhead
from quorate.tuning.search.members.candidates import choose_candidates
from quorate.tuning.search.structures.evaluation import evaluate, fit_rule
from quorate.tuning.search.structures.structure import Structure
from quorate.tuning.search.structures.table import Column, Table

N, C = 300, 4


def column(name, seconds, *reads):
    return Column(name, Curve("cpu", {1: seconds, 4: 2 * seconds}, {1: seconds}, (seconds,)), 1000, reads)


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    labels = random.integers(0, C, N)
    logits = random.normal(size=(4, N, C))
    logits[:, np.arange(N), labels] += np.array([1.0, 2.0, 3.0, 2.5])[:, None]
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    columns = (column("weak", 0.001), column("middle", 0.003), column("strong", 0.010), column("link", 0.002, "middle"))
    return Table(columns, probs.astype(np.float32), labels)


def test_a_mean_is_worth_what_scikit_learn_says(table):
    names = ("weak", "middle", "strong")
    values = evaluate(Structure("parallel", "mean", names), table).values
    mean = table.rows_of(names).astype(np.float64).mean(axis=0)
    mean /= mean.sum(axis=1, keepdims=True)  # float32 rows miss one by more than scikit-learn allows
    assert values["log_loss"] == pytest.approx(sklearn.metrics.log_loss(table.labels, mean), abs=1e-5)
    assert values["error_rate"] == pytest.approx(1 - sklearn.metrics.accuracy_score(table.labels, mean.argmax(1)))


def test_latency_is_the_slowest_of_a_group_the_sum_of_a_chain_and_the_expectation_of_a_cascade(table):
    parallel = evaluate(Structure("parallel", "mean", ("weak", "middle", "strong")), table).values
    assert parallel["p95_latency_s"] == pytest.approx(0.010)
    assert parallel["device_s_per_request"] == pytest.approx((0.001 + 0.003 + 0.010) / 2)  # four rows cost as two
    chain = evaluate(Structure("chain", "mean", ("link",)), table).values
    assert chain["p95_latency_s"] == pytest.approx(0.003 + 0.002)
    assert chain["memory_bytes"] == 2000
    stages = (("weak",), ("strong",))
    cascade = Structure("cascade", "cascade", ("weak", "strong"), stages=stages, options={"max_loss": 0.05})
    seconds = evaluate(cascade, table).values["p95_latency_s"]
    share = (seconds - 0.001) / 0.010  # of rows that went on
    assert 0 < share < 1
    assert share * N == pytest.approx(round(share * N), abs=1e-4)


def test_serving_adds_to_each_step_and_for_each_member_asked(table):
    served = replace(table, overhead=Overhead(0.010, 0.001))

    def added(structure):
        with_it, without = (evaluate(structure, one).values["p95_latency_s"] for one in (served, table))
        return with_it - without

    assert added(Structure("parallel", "mean", ("weak", "middle", "strong"))) == pytest.approx(0.010 + 3 * 0.001)
    assert added(Structure("chain", "mean", ("link",))) == pytest.approx(2 * (0.010 + 0.001))
    stages = (("weak",), ("strong", "middle"))
    cascade = Structure("cascade", "cascade", ("weak", "strong", "middle"), stages=stages, options={"max_loss": 0.05})
    share = (evaluate(cascade, table).values["p95_latency_s"] - 0.001) / 0.010
    assert added(cascade) == pytest.approx(0.011 + share * 0.012)
    late = Structure("parallel", "mean", ("weak", "middle"), deadline_s=0.013)
    assert evaluate(late, table).values["log_loss"] < evaluate(late, served).values["log_loss"]  # middle needs 0.003


def test_members_without_weight_are_left_out_of_the_structure_and_of_its_cost(table):
    noise = np.random.default_rng(1).dirichlet(np.ones(C) * 0.05, N).astype(np.float32)
    probs = table.probs.copy()
    probs[0] = noise
    found = evaluate(
        Structure("parallel", "weighted_mean", ("weak", "strong")), Table(table.columns, probs, table.labels)
    )
    assert found.structure.members == ("strong",)
    assert found.values["memory_bytes"] == 1000


def test_a_deadline_before_a_member_answers_costs_what_it_knows(table):
    late = Structure("parallel", "mean", ("weak", "strong"), deadline_s=0.005)
    alone = evaluate(Structure("parallel", "mean", ("weak",)), table).values["log_loss"]
    values = evaluate(late, table).values
    assert values["log_loss"] == pytest.approx(alone)
    assert values["p95_latency_s"] == 0.005
    nobody = evaluate(Structure("parallel", "mean", ("weak", "strong"), deadline_s=0.005, quorum=2), table).values
    assert nobody["log_loss"] == pytest.approx(np.log(C))
    assert nobody["error_rate"] == 1.0


def test_a_stack_is_judged_on_rows_it_was_not_fitted_on(table):
    structure = Structure("stack", "stacking", ("weak", "strong"), options={"l2": 0.01})
    loss = evaluate(structure, table).values["log_loss"]
    features = np.concatenate([table.probs[0], table.probs[2]], axis=1)
    model = sklearn.linear_model.LogisticRegression(C=1 / (0.01 * N), max_iter=5000).fit(features, table.labels)
    assert loss > sklearn.metrics.log_loss(table.labels, model.predict_proba(features)) - 0.02


def test_predictions_that_are_no_numbers_fail_the_trial(table):
    probs = table.probs.copy()
    probs[0, 3] = np.nan
    with pytest.raises(Exception, match=r"not a number|row without any|NaN"):
        evaluate(Structure("parallel", "mean", ("weak",)), Table(table.columns, probs, table.labels))


def test_candidates_hold_the_useful_and_the_cheap(table):
    names = ["weak", "middle", "strong"]
    cost = {"weak": 1.0, "middle": 5.0, "strong": 50.0}
    chosen = choose_candidates(names, table.rows_of(names), table.labels, cost, 2)
    assert chosen == ("weak", "strong")


@pytest.mark.parametrize("rule", ["weighted_vote", "borda", "reciprocal_rank", "dempster_shafer"])
def test_a_rule_that_no_solver_knows_gets_weights_that_are_better_than_equal_ones(table, rule):
    names = ("weak", "middle", "strong")
    fitted = fit_rule(Structure("parallel", rule, names), table.rows_of(names), table.labels)
    assert fitted.spec_weights is not None
    assert fitted.spec_weights[0] < fitted.spec_weights[2]

    def loss(one):
        given = one.fuse(torch.from_numpy(table.rows_of(names))).values.numpy()[np.arange(N), table.labels]
        return -np.log(np.maximum(given.astype(float), 1e-15)).mean()

    assert loss(fitted) < loss(build_rule(rule, names, dict.fromkeys(names, 1.0), {}))
    fused = fitted.fuse(torch.from_numpy(table.rows_of(names))).values.numpy()
    values = evaluate(Structure("parallel", rule, names), table).values  # on rows it was not fitted on
    assert values["error_rate"] == pytest.approx((fused.argmax(axis=1) != table.labels).mean(), abs=0.03)
