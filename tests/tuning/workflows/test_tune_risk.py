"""What answers may lose: from labelled rows to a cascade, and to rows that abstain, as they are served."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.special import softmax

import quorate
from quorate.deployments import load_spec, parse_spec, save_spec
from quorate.deployments.server.in_process import InProcess
from quorate.tuning import Labelled, Outputs, choose, tune_fusion
from quorate.tuning.alternatives.out_of_sample import out_of_sample
from quorate.tuning.alternatives.promises.bandited import fit_policy
from quorate.tuning.alternatives.promises.cascaded import cascade_cost, fit_cascaded
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.unfitted import Uniform
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.metrics.row_metrics import row_metric
from quorate.tuning.evaluation.price import Price

pytestmark = pytest.mark.long

NAMES = ("a", "b", "c", "d")
# Rows and the seed they are drawn with; rules of hundreds of numbers are not tried on so few.
SOLVE, JUDGE = (300, 0), (1200, 1)


@cache
def said(rows, seed):
    """Members of one skill that err by themselves: most rows are clear to each, the others to all together."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, rows)
    clear = np.where(random.random(rows) < 0.7, 8.0, 1.5)[:, None]
    logits = clear * np.eye(3)[labels] + random.normal(0, 1.2, (4, rows, 3))
    return softmax(logits, axis=2).astype(np.float32), labels


def outputs(rows, seed):
    return Outputs(NAMES, *said(rows, seed))


def labelled(rows, seed):
    probs, labels = said(rows, seed)
    return Labelled({"row": np.ascontiguousarray(probs.transpose(1, 0, 2))}, labels, ("x", "y", "z"))


@pytest.fixture
def spec(tmp_path):
    """Members that give what their column of the row holds."""
    (tmp_path / "my_parts.py").write_text("def make(member):\n    return lambda row: row[:, member]\n")
    members = {
        name: {"model": "my_parts:make", "config": {"member": m}, "inputs": ["row"], "output": "probabilities"}
        for m, name in enumerate(NAMES)
    }
    return parse_spec(
        {
            "name": "parts",
            "inputs": {"row": {"datatype": "FP32", "shape": [4, 3]}},
            "classes": ["x", "y", "z"],
            "members": members,
            "fusion": {"rule": "mean", "quorum": 2},
        }
    )


def tuned(spec, folder, risk):
    return tune_fusion(spec, folder, labelled(*SOLVE), labelled(*JUDGE), runs=folder / "runs", risk=risk)


def test_an_ensemble_is_served_as_a_cascade_that_asks_few_members_and_loses_no_more_than_was_said(spec, tmp_path):
    result = tuned(spec, tmp_path, Risk(max_loss=0.02))
    choice, fresh = result.choice, labelled(4000, 2)
    assert (choice.decision, choice.recommended) == ("ensemble", "cascade")
    assert choice.cascade is not None
    assert choice.cascade.asks < 2.5
    assert f"has at most 2.00% less accuracy than {choice.cascade.beside} with probability 0.95" in choice.verdict
    assert result.to_dict()["cascade"]["beside"] == choice.cascade.beside
    others = Outputs(NAMES, *said(4000, 2))
    right = {
        name: choice.recipes[name].fuse(NAMES, others.probs).argmax(axis=1) == fresh.labels
        for name in ("cascade", choice.cascade.beside)
    }
    assert right["cascade"].mean() >= right[choice.cascade.beside].mean() - 0.02
    served = load_spec(result.folder / "spec.yaml")
    assert served.output_fusion.rule == "cascade"
    with InProcess(served, result.folder) as ensemble:
        found = [ensemble.infer("parts", {"row": fresh.inputs["row"][[row]]}, {}) for row in range(40)]
    fused = np.concatenate([one.outputs["fused"] for one in found])
    np.testing.assert_allclose(fused, choice.recipes["cascade"].fuse(NAMES, others.probs[:, :40]), atol=1e-6)
    counts = [len(str(one.parameters["members_used"]).split(",")) for one in found]
    assert np.mean(counts) == pytest.approx(choice.cascade.asks, abs=0.8)
    assert (result.folder / f"spec-{choice.cascade.beside}.yaml").is_file()  # another pick


def test_rows_that_are_not_sure_enough_abstain_as_they_are_served_and_of_the_others_few_are_wrong(spec, tmp_path):
    result = tuned(spec, tmp_path, Risk(max_error=0.02, confidence=0.9))
    choice = result.choice
    kept = choice.rejected[choice.recommended]
    assert kept.errors < 0.03
    assert 0.5 < kept.answered < 0.98
    assert kept.sentence() in choice.table().lines
    fresh, others = labelled(4000, 2), said(4000, 2)[0]
    fused = choice.recipes[choice.recommended].fuse(NAMES, others)
    answered = fused.sum(axis=1) > 0
    assert (fused[answered].argmax(axis=1) != fresh.labels[answered]).mean() <= 0.02
    served = load_spec(result.folder / "spec.yaml")
    assert served.output_fusion.decision is not None
    assert served.output_fusion.decision.reject_below == pytest.approx(kept.below)
    with InProcess(served, result.folder) as ensemble:
        found = ensemble.infer("parts", {"row": fresh.inputs["row"][:50]}, {}).outputs["fused"]
    np.testing.assert_allclose(found, fused[:50], atol=1e-6)


def test_from_a_file_of_rows_both_are_asked_for_by_the_call_that_the_command_line_makes(spec, tmp_path):
    rows = labelled(900, 0)
    np.savez(tmp_path / "rows.npz", row=rows.inputs["row"], label=rows.labels)
    save_spec(spec, tmp_path / "parts.yaml")
    result = quorate.tune(
        tmp_path / "parts.yaml", tmp_path / "rows.npz", max_loss=0.05, max_error=0.06, runs=tmp_path / "runs"
    )
    assert result.choice.recommended == "cascade"
    fusion = load_spec(result.folder / "spec.yaml").output_fusion
    assert fusion.rule == "cascade"
    assert fusion.decision is not None
    predicted = quorate.tune(
        predictions=dict(zip(NAMES, said(900, 0)[0], strict=True)), labels=rows.labels, max_loss=0.05,
        runs=tmp_path / "runs",
    )  # fmt: skip
    assert predicted.choice.recommended == "cascade"
    assert (predicted.folder / "fusion-cascade.yaml").is_file()


def test_the_loss_that_was_said_is_exceeded_on_new_rows_in_few_draws():
    truth, numbers, over = outputs(20_000, 3), row_metric("log_loss").numbers, 0
    for seed in range(20):
        drawn = np.random.default_rng(seed).permutation(20_000)
        solve, judge, fresh = (truth.rows(drawn[part]) for part in (slice(200), slice(200, 800), slice(800, None)))
        (pool,), _ = out_of_sample([Uniform()], solve, judge, numbers)
        made = fit_cascaded(pool, pool, solve, judge, numbers, Risk(0.02, confidence=0.8), seed=seed)
        right = [(one.fitted.fuse(NAMES, fresh.probs).argmax(axis=1) == fresh.labels).mean() for one in (pool, made)]
        over += right[0] - right[1] > 0.02
    assert over <= 7  # of 20, each with a probability of 0.2 at most: more than 7 has one of 3 %


def test_stages_begin_with_the_member_that_costs_little_and_a_price_sees_what_is_saved():
    dear = {"a": 50.0, "b": 1.0, "c": 50.0, "d": 50.0}
    price = Price(0.0, 1e-6, dict.fromkeys(NAMES, 1.0), dear, {name: frozenset([name]) for name in NAMES})
    choice = choose(outputs(*SOLVE), outputs(*JUDGE), risk=Risk(max_loss=0.02), price=price)
    assert choice.recipes["cascade"].options["stages"][0] == ["b"]
    whole, part = (choice.alternatives[name].cost for name in ("tuned", "cascade"))
    assert whole is not None
    assert part is not None
    assert part.device_ms < 0.7 * whole.device_ms
    assert part.latency_ms < 2.0  # two or three stages of a millisecond each, for the rows that get there


def test_what_cannot_be_shown_or_is_not_asked_of_such_rows_is_said():
    few = choose(outputs(100, 0), outputs(100, 1), risk=Risk(max_loss=0.001))
    assert few.recommended != "cascade"
    assert "cascade" in few.left_out
    assert any(line.startswith("not tried: cascade: ") for line in few.table().lines)
    grouped = replace(outputs(100, 1), groups=np.arange(100) // 5)
    with pytest.raises(TuningError, match="max_loss: rows that belong together; leave the groups out"):
        choose(outputs(100, 0), grouped, risk=Risk(max_loss=0.01))
    with pytest.raises(TuningError, match="max_error: 2; give a share from 0 to below 1"):
        Risk(max_error=2)


def test_rows_that_are_to_be_explored_are_served_by_a_bandit_that_keeps_the_same_floor(spec, tmp_path):
    result = tuned(spec, tmp_path, Risk(max_loss=0.03, explore=0.05))
    choice = result.choice
    assert choice.recommended == "bandit"
    assert choice.cascade is not None
    assert choice.cascade.asks < 3
    assert "bandit asks" in choice.verdict
    fresh, others = labelled(4000, 2), said(4000, 2)[0]
    right = {
        name: choice.recipes[name].fuse(NAMES, others).argmax(axis=1) == fresh.labels
        for name in ("bandit", choice.cascade.beside)
    }
    assert right["bandit"].mean() >= right[choice.cascade.beside].mean() - 0.03
    served = load_spec(result.folder / "spec.yaml")
    assert (served.output_fusion.rule, served.output_fusion.options["explore"]) == ("bandit", 0.05)
    with InProcess(served, result.folder) as ensemble:
        found = ensemble.infer("parts", {"row": fresh.inputs["row"][:40]}, {}).outputs["fused"]
    np.testing.assert_allclose(found, choice.recipes["bandit"].fuse(NAMES, others[:, :40]), atol=1e-6)


def test_a_bandit_is_priced_by_the_sets_that_it_asks():
    dear = {"a": 50.0, "b": 1.0, "c": 50.0, "d": 50.0}
    price = Price(0.0, 1e-6, dict.fromkeys(NAMES, 1.0), dear, {name: frozenset([name]) for name in NAMES})
    choice = choose(outputs(*SOLVE), outputs(*JUDGE), risk=Risk(max_loss=0.03, explore=0.02), price=price)
    rule = choice.recipes["bandit"].options
    assert rule["first"] == ["b"]
    whole, part = (choice.alternatives[name].cost for name in ("tuned", "bandit"))
    assert whole is not None
    assert part is not None
    assert 1.0 < part.device_ms < 0.8 * whole.device_ms


def test_exploring_without_a_floor_is_refused():
    with pytest.raises(TuningError, match="explore: no max_loss"):
        Risk(explore=0.1)


def test_what_both_cost_is_told_on_rows_that_they_were_not_fitted_on():
    rows, pool, risk = outputs(600, 0), Recipe("mean", NAMES), Risk(max_loss=0.03)
    policy = fit_policy(pool, rows, None, risk)
    assert policy is not None
    assert 0.25 <= policy.cost < 0.8
    assert 0.25 <= cascade_cost(pool, rows, risk) < 0.8
    assert fit_policy(Recipe("mean", NAMES[:2]), rows, None, risk) is None
