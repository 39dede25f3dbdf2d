"""A change that is planted is found and named; where nothing changes there is no alarm."""

import numpy as np
import pytest

from quorate.deployments.learning.drift.monitor import Monitor, Settings
from quorate.deployments.learning.drift.naming import Named
from quorate.deployments.learning.drift.reference import KINDS, Reference, reference_of
from quorate.deployments.learning.drift.rows import Subject
from quorate.deployments.transport.row_state import RowState
from tests.deployments.support.drift_rows import CLASSES, MEMBERS, SUBJECT, as_rows, said

UNLABELLED = tuple(name for name, kind in KINDS.items() if not kind.labelled)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def monitor(random):
    """One that knows 1,000 rows, with labels and without."""
    found = Monitor(SUBJECT, Settings(rows=1000))
    probs, truth = said(random, 1000)
    assert found.see(as_rows(probs)) == found.see(as_rows(probs, truth)) == []
    return found


def who(monitor):
    """Kinds by member that has changed; the answers, which move along with one of four, left aside."""
    members = {one.member for one in monitor.named() if one.member}
    return {name: {one.kind for one in monitor.named() if one.member == name} for name in members}


def test_a_member_that_is_broken_is_named_and_no_other(monitor, random):
    probs, truth = said(random, 400)
    probs[2] = random.dirichlet(np.ones(3), 400)
    changes = monitor.see(as_rows(probs, start=5000)) + monitor.see(as_rows(probs, truth, 5000))
    assert set(who(monitor)) == {"c"}
    assert {"disagreement", "loss", "calibration"} <= who(monitor)["c"]
    assert all(abs(one.since_s - 5000) < 100 for one in changes)
    assert {one.statistic.members for one in changes if one.statistic.kind == "disagreement"} == {
        ("a", "c"), ("b", "c"), ("c", "d"),
    }  # fmt: skip


def test_a_member_that_only_disagrees_is_named_by_nothing_else(monitor, random):
    """It says another class as often as it says each, and as surely: nothing but the distances has changed."""
    probs, _ = said(random, 400, shares=(1 / 3, 1 / 3, 1 / 3))
    only = Monitor(SUBJECT, Settings(UNLABELLED, rows=1000))
    first, _ = said(random, 1000, shares=(1 / 3, 1 / 3, 1 / 3))
    only.see(as_rows(first))
    probs[1] = np.roll(probs[1], 1, axis=1)
    only.see(as_rows(probs))
    assert who(only) == {"b": {"disagreement", "dissent"}}


def test_a_class_that_a_member_means_something_else_by_is_named_without_labels(random):
    """Of twenty classes two are swapped in one member: a tenth of its rows."""
    classes = tuple(f"class {n}" for n in range(20))
    found = Monitor(Subject("classification", MEMBERS, classes), Settings(UNLABELLED, rows=2000))
    shares = (0.05,) * 20
    found.see(as_rows(said(random, 2000, shares=shares, skill=6.0)[0]))
    probs, _ = said(random, 1500, shares=shares, skill=6.0)
    probs[1][:, [3, 7]] = probs[1][:, [7, 3]]
    found.see(as_rows(probs))
    assert {one.member for one in found.named() if one.kind == "dissent"} == {"b"}
    assert next(one for one in found.named() if one.kind == "dissent").about == ("class 3", "class 7")
    assert set(who(found)) == {"b"}


def test_other_shares_of_classes_are_told_of_most_members_alike(monitor, random):
    probs, _ = said(random, 600, shares=(0.1, 0.3, 0.6))
    monitor.see(as_rows(probs))
    found = [one for one in monitor.named() if one.kind == "classes"]
    assert {one.member for one in found} == {*MEMBERS, ""}
    assert all(one.alike and set(one.about) == {"red", "blue"} for one in found if one.member)
    assert "disagreement" not in {one.kind for one in monitor.named()}


def test_a_member_that_is_missing_more_often_is_named_and_its_empty_rows_are_not_looked_at(monitor, random):
    probs, _ = said(random, 400)
    states = np.zeros((4, 400), np.uint8)
    states[3, ::4] = RowState.DEADLINE
    probs[3, ::4] = 0.0
    monitor.see(as_rows(probs, states=states))
    assert who(monitor) == {"d": {"missing"}}


def test_members_that_nobody_asked_are_not_missing(monitor, random):
    probs, _ = said(random, 400)
    states = np.zeros((4, 400), np.uint8)
    states[3], states[2, ::2] = RowState.UNASKED, RowState.SHED
    monitor.see(as_rows(probs, states=states))
    assert monitor.named() == []


def test_a_class_that_means_something_else_is_named_by_labels(random):
    found = Monitor(SUBJECT, Settings(rows=1000))
    probs, truth = said(random, 1000)
    found.see(as_rows(probs, truth))
    probs, truth = said(random, 600)
    found.see(as_rows(probs, np.where(truth == 1, 2, truth)))
    errors = next(one for one in found.named() if one.kind == "errors")
    assert errors == Named("", "errors", ("green",))
    assert next(one for one in found.named() if one.kind == "labels").about == ("blue", "green")
    assert {one.member for one in found.named() if one.kind == "loss"} == {*MEMBERS, ""}


def test_what_it_loses_is_what_scikit_learn_says(random):
    from sklearn.metrics import log_loss

    probs, truth = said(random, 500)
    known = reference_of(SUBJECT, [KINDS["loss"], KINDS["calibration"]], [as_rows(probs, truth)]).known
    for one, k in known.items():
        mine = probs[MEMBERS.index(one.members[0])] if one.members else probs.mean(axis=0)
        if one.kind == "loss":
            floor = np.maximum(mine[np.arange(500), truth], 1e-3)
            assert k.raw(k.mean) == pytest.approx(-np.log(floor).mean(), rel=1e-5)
            assert k.raw(k.mean) == pytest.approx(log_loss(truth, mine), rel=0.02)
        else:
            gap = mine.max(axis=1).mean() - (mine.argmax(axis=1) == truth).mean()
            assert k.raw(k.mean) == pytest.approx(gap, abs=1e-6)


def test_values_that_shift_are_named(random):
    subject = Subject("regression", ("a", "b", "c"))
    found = Monitor(subject, Settings(rows=500))

    def values(count):
        true = random.normal(size=count)
        return (true + 0.3 * random.normal(size=(3, count)))[..., None].astype(np.float32), true[:, None]

    outputs, true = values(500)
    assert found.see(as_rows(outputs)) == found.see(as_rows(outputs, true)) == []
    outputs, true = values(400)
    outputs[0] += 2.0
    found.see(as_rows(outputs)), found.see(as_rows(outputs, true))
    assert who(found)["a"] >= {"disagreement", "values", "loss", "calibration"}
    assert set(who(found)) == {"a"}


def test_of_an_answer_of_many_rows_their_mean_is_one_draw(monitor, random):
    probs, _ = said(random, 4000)
    probs[0] = random.dirichlet(np.ones(3), 4000)
    one = as_rows(probs)
    changes = monitor.see(one.__class__(**{**vars(one), "answers": np.zeros(4000, np.int64)}))
    assert changes == []
    assert monitor.report()["answers"] == 1001


def test_what_is_as_it_was_again_is_no_alarm_any_more(monitor, random):
    probs, _ = said(random, 300)
    probs[2] = random.dirichlet(np.ones(3), 300)
    monitor.see(as_rows(probs))
    assert who(monitor).keys() == {"c"}
    changes = monitor.see(as_rows(said(random, 3000)[0]))
    assert {one.raised for one in changes} == {False}
    assert who(monitor) == {}


def alarms(streams, length, **settings):
    """In how many streams in which nothing changes there is an alarm."""
    raised = 0
    for seed in range(streams):
        random = np.random.default_rng(seed)
        found = Monitor(SUBJECT, Settings(**settings))
        for count in (settings["rows"], length):
            probs, truth = said(random, count)
            raised += bool(found.see(as_rows(probs)) + found.see(as_rows(probs, truth)))
    return raised


def test_where_nothing_changes_no_alarm_is_raised_in_19_of_20_streams():
    assert alarms(100, 200, kinds=UNLABELLED, rows=100, tolerance=0.0) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 1000])
def test_where_nothing_changes_for_long_no_alarm_is_raised_in_19_of_20_streams(rows):
    assert alarms(200, 4000, rows=rows, tolerance=0.0) <= 10


def test_a_reference_comes_back_from_json(random):
    probs, truth = said(random, 200)
    found = reference_of(SUBJECT, list(KINDS.values()), [as_rows(probs, truth)], "held-out rows", "abc")
    assert Reference.from_json(found.to_json()) == found
    assert {one.about for one in found.known if one.kind == "classes"} == set(CLASSES)


def test_a_watch_goes_on_with_members_that_stay_when_the_fusion_changes(monitor, random):
    probs, _ = said(random, 300)
    probs[2] = random.dirichlet(np.ones(3), 300)
    monitor.see(as_rows(probs))
    after = Monitor(SUBJECT, Settings(rows=1000), monitor.learned, "another fusion")
    after.carry_on(monitor)
    assert [one for one in after.named() if one.member] == [one for one in monitor.named() if one.member]
    assert not [one for one in after.named() if not one.member]
    other = Monitor(Subject("classification", ("a", "e"), CLASSES), Settings(rows=1000), monitor.learned, "")
    other.carry_on(monitor)
    assert other.report()["answers_learned"] == 0  # of e nothing is known
