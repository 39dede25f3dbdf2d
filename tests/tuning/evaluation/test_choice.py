"""The decision over alternatives: what was wrong with verdicts, each as a fact."""

import numpy as np
import pytest
from scipy.special import softmax

from quorate.fusion.errors import QuorateError
from quorate.tuning import Outputs, Recipe, choose
from quorate.tuning.alternatives.base import Kind
from quorate.tuning.alternatives.out_of_sample import OutOfSample
from quorate.tuning.alternatives.unfitted import Answered, Given
from quorate.tuning.errors import DataError, TuningError
from quorate.tuning.evaluation.choice import compare
from quorate.tuning.evaluation.metrics.row_metrics import row_metric

pytestmark = pytest.mark.long


def outputs(probs, labels, **columns):
    names = tuple("abcdefgh"[: len(probs)])
    return Outputs(names, np.asarray(probs, np.float32), np.asarray(labels), **columns)


def noisy(rows, seed, noise, classes=3, sharp=1.0, members=3):
    """Members that see the true logits under noise of their own; ``noise`` of each, or one of all."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 1.5, (rows, classes))
    labels = (softmax(truth, axis=1).cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    noises = noise if isinstance(noise, list) else [noise] * members
    probs = [softmax(sharp * (truth + random.normal(0, one, truth.shape)), axis=1) for one in noises]
    return np.stack(probs), labels


def halves(probs, labels, **columns):
    half = len(labels) // 2
    first, second = slice(0, half), slice(half, None)
    return tuple(
        outputs(probs[:, part], labels[part], **{k: v[part] for k, v in columns.items()}) for part in (first, second)
    )


def compared(losses, groups=None, min_gain=0.0):
    """The choice between a floor, one member and ensembles, from losses (K, N) of the member and each ensemble."""
    rows = losses.shape[1]
    known = outputs(
        np.full((1, rows, 2), 0.5), np.zeros(rows, np.int64), **({} if groups is None else {"groups": groups})
    )
    kinds: list[tuple[str, Kind]] = [("floor", "floor"), ("member", "single")]
    kinds += [(f"e{number}", "ensemble") for number in range(len(losses) - 1)]
    columns, none = [np.full(rows, 50.0), *losses], np.empty((0, 2), np.float32)
    found = [
        OutOfSample(Answered(name, kind), Given(none), np.full((rows, 1), np.nan), column[:, None])
        for (name, kind), column in zip(kinds, columns, strict=True)
    ]
    return compare(found, known, known, row_metric("log_loss"), pool=False, min_gain=min_gain)


def test_the_mean_of_equally_good_members_is_recommended_over_each():
    choice = choose(*halves(*noisy(960, 0, 1.0)))
    assert choice.decision == "ensemble"
    assert choice.proof is not None
    assert choice.proof.gain.low > 0
    assert choice.verdict.startswith(f"ensemble, serve {choice.recommended}: +")


def test_a_member_that_knows_the_truth_is_served_alone():
    choice = choose(*halves(*noisy(900, 1, [0.0, 1.0, 1.0])))
    assert (choice.recommended, choice.decision) == ("a", "single")
    assert choice.verdict.startswith("do not ensemble, serve a: ")


def test_that_nothing_was_shown_is_said_and_is_not_that_there_is_nothing():
    choice = choose(*halves(*noisy(60, 2, [0.3, 0.3, 0.3])))
    assert choice.decision != "ensemble"
    assert "which does not say that none is" in choice.verdict or choice.decision == "nothing"


def test_the_incumbent_is_an_alternative_and_wins_where_it_is_better():
    # Members that are too timid: their product is right, and the mean of them is not.
    probs, labels = noisy(3000, 3, 0.8, sharp=0.35, members=4)
    incumbent = Recipe("product", tuple("abcd"))
    choice = choose(*halves(probs, labels), incumbent=incumbent)
    found = choice.alternatives
    assert found["incumbent"].value < found["uniform"].value
    assert found["incumbent"].value < found["tuned"].value
    assert choice.recommended in {"incumbent", "log_pool", "calibrated", "stacking"}
    assert found[choice.recommended].value <= found["incumbent"].value + 0.01


def test_one_row_of_36_nats_does_not_hide_what_is_better():
    # Two forests say exactly 0 of the true class in two rows of 140, and nobody else does.
    probs, labels = noisy(140, 4, 0.5)
    for row in (10, 100):
        probs[:2, row] = 0.5
        probs[:2, row, labels[row]] = 0.0
    choice = choose(*halves(probs[:2], labels))
    assert choice.alternatives["a"].value > 0.4 + choice.alternatives["calibrated_single"].value
    assert choice.recommended not in {"a", "b", "uniform", "tuned"}
    together = choose(*halves(probs, labels))  # the third knows these rows, and the mean with it
    assert together.alternatives["c"].value < together.alternatives["a"].value - 0.4
    assert together.recommended not in {"a", "b"}


def test_a_member_that_rules_classes_out_is_not_the_best_single_one_for_want_of_a_row_that_shows_it():
    probs, labels = noisy(240, 3, [0.3, 1.5, 1.5])
    sure = probs[0].argmax(axis=1) == labels
    probs[0][sure] = np.where(probs[0][sure] == probs[0][sure].max(axis=1, keepdims=True), 1.0, 0.0)
    choice = choose(*halves(probs, labels))
    assert choice.alternatives["a"].value < min(choice.alternatives[name].value for name in "bc")
    assert choice.best_single != "a"
    assert choice.unbounded == ("a",)
    assert "said by a" in str(choice.table().lines)


def test_copies_of_one_member_gain_nothing():
    probs, labels = noisy(400, 5, 0.8)
    choice = choose(*halves(probs[:1].repeat(3, axis=0), labels))
    assert choice.recommended not in {"uniform", "tuned"}
    assert choice.alternatives["uniform"].gain.difference == pytest.approx(choice.alternatives["a"].gain.difference)


def test_what_asks_one_member_alone_is_no_ensemble():
    probs, labels = noisy(200, 9, [0.0, 1.0, 1.0])
    choice = choose(*halves(probs, labels), incumbent=Recipe("weighted_mean", tuple("abc"), {"a": 1.0, "b": 0, "c": 0}))
    assert choice.alternatives["incumbent"].kind == "single"
    assert choice.alternatives["uniform"].kind == "ensemble"
    assert choice.decision == "single"


def test_labels_at_random_leave_nothing_worth_serving():
    probs, labels = noisy(400, 6, 1.0, sharp=2.0)
    choice = choose(*halves(probs, np.random.default_rng(0).permutation(labels)))
    assert (choice.recommended, choice.decision) == ("class_frequencies", "nothing")
    assert choice.verdict.startswith("nothing is worth serving")


def test_a_gain_too_small_to_be_worth_it_is_left():
    losses = np.random.default_rng(0).exponential(size=(1, 2000)) + np.array([[0.0], [-0.05]])
    assert compared(losses).decision == "ensemble"
    assert compared(losses, min_gain=0.06).decision == "single"


@pytest.mark.parametrize(("rows", "a_group"), [(20, 1), (50, 1), (100, 1), (400, 1), (100, 5), (400, 5)])
def test_no_gain_is_claimed_by_chance_in_more_than_one_of_twenty(rows, a_group):
    random, claims, trials = np.random.default_rng(0), 0, 100
    for _ in range(trials):
        number = np.repeat(np.arange(rows // a_group), a_group)
        member = random.exponential(size=rows)
        shared = random.normal(size=(4, rows // a_group))[:, number]  # rows of a group err together
        gains = 0.3 * (shared + 0.5 * random.normal(size=(4, rows)))
        claims += compared(np.stack([member, *(member - gains)]), number).decision == "ensemble"
    assert claims <= 0.1 * trials  # 5 % but for chance: more than 10 of 100 has a probability of 1 %


def test_groups_that_are_not_told_make_chance_look_like_gain():
    random, claims = np.random.default_rng(0), 0
    for _ in range(100):
        number = np.repeat(np.arange(20), 5)
        member = random.exponential(size=100)
        gains = 0.3 * (random.normal(size=(4, 20))[:, number] + 0.5 * random.normal(size=(4, 100)))
        claims += compared(np.stack([member, *(member - gains)])).decision == "ensemble"
    assert claims > 20


def test_do_not_ensemble_is_never_said_while_an_ensemble_is_better_beyond_chance():
    random = np.random.default_rng(0)
    for _ in range(200):
        member = random.exponential(size=200)
        choice = compared(np.stack([member, *(member - random.normal(random.normal(0, 0.1), 0.5, (3, 200)))]))
        if choice.decision == "single":
            assert all(choice.alternatives[name].gain.high >= 0 for name in ("e0", "e1", "e2"))


def test_where_nothing_is_beyond_chance_the_better_guess_is_served_and_no_gain_is_claimed():
    random = np.random.default_rng(0)
    member, noise = random.exponential(size=60), random.normal(0, 0.5, (2, 60))
    noise -= noise.mean(axis=1, keepdims=True)
    ahead = compared(np.stack([member, member + noise[0] - 0.08, member + noise[1] - 0.02]))
    assert (ahead.decision, ahead.recommended, ahead.best_single) == ("undecided", "e0", "member")
    assert ahead.verdict.startswith("serve e0 until more rows say more: +0.0800 nats per row (")
    assert "which may be chance; no ensemble is shown to be better, which does not say that none is" in ahead.verdict
    even = compared(np.stack([member, member + noise[0] - 0.01, member + noise[1] + 0.04]))
    assert (even.decision, even.recommended) == ("single", "member")
    dearer = compared(np.stack([member, member + noise[0] - 0.08]), min_gain=0.09)
    assert dearer.decision == "single"


def test_without_solving_rows_the_last_ensemble_is_judged_against_the_best_member():
    random = np.random.default_rng(0)
    best = random.exponential(size=400)
    losses = {"good": best, "bad": best + 0.5}
    rows, none = outputs(np.full((2, 400, 2), 0.5), np.zeros(400, np.int64)), np.empty((0, 2), np.float32)
    kinds: list[tuple[str, Kind]] = [("floor", "floor"), ("good", "single"), ("bad", "single"), ("mixed", "ensemble")]
    noise = random.normal(0, 0.5, 400)
    losses |= {
        "floor": np.full(400, 50.0),
        "mixed": best + noise - noise.mean() - 0.005,
    }  # ahead, as chance would have it
    found = [
        OutOfSample(Answered(name, kind), Given(none), np.full((400, 1), np.nan), losses[name][:, None])
        for name, kind in kinds
    ]
    choice = compare(found, rows, rows, row_metric("log_loss"), pool=False)
    assert choice.decision != "ensemble"
    assert choice.best_single == "good"


def test_an_alternative_that_cannot_be_fitted_is_left_out_in_words():
    probs, labels = noisy(80, 7, 0.5)
    gate = Recipe("gate", tuple("abc"))
    choice = choose(*halves(probs, labels), incumbent=gate)
    assert "incumbent" not in choice.alternatives
    assert "incumbent" in choice.left_out


def test_what_cannot_be_asked_is_refused_in_words():
    first, second = halves(*noisy(80, 8, 0.5))
    with pytest.raises(TuningError, match="metric: 'auc' of classes; give one of log_loss, brier, accuracy"):
        choose(first, second, metric="auc")
    with pytest.raises(DataError, match="groups to cross-validate on: 1; give at least 2"):
        choose(outputs(first.probs, first.labels, groups=np.zeros(40)), second)
    assert issubclass(DataError, QuorateError)
