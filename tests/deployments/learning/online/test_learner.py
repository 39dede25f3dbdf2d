"""Weights that learn from labels that go on coming: in pieces, after a restart, and what they wish to be live."""

from itertools import pairwise

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.learning.online.history import LabelTimes, live_through
from quorate.deployments.learning.online.learner import Learner, LossLearner, Start
from quorate.deployments.learning.online.publishing import Change
from quorate.deployments.learning.online.state import OnlineState, Publication, fusion_name
from tests.deployments.support.known_answers import two_known
from tests.deployments.support.label_streams import skills, stream

PINNED = np.array([0.7, 0.1, 0.1, 0.1])
SKILLS = np.array([3.0, 2.0, 1.0, 0.0])


def taught(data, learner, pieces=6, most=99):
    """Have it take labels in pieces; what it wishes for between two goes live, but not more often than this."""
    order, _ = data.in_order_of_labels()
    came = data.came[order]
    for start, stop in pairwise(np.linspace(0, len(order), pieces + 1).astype(int)):
        rows = order[start:stop]
        learner.take(LabelTimes(rows, came[start:stop]), data.truth[rows], data.cells[rows], data.present[rows])
        wish = learner.publisher and learner.publisher.wish
        if wish and (wish.back or sum(not one.taken_back for one in learner.publisher.changes) < most):
            learner.publisher.went_live(wish, int(came[stop - 1]))
    return learner


def start(at_once=False, **changed):
    return Start("y", tuple("abcd"), PINNED, at_once=at_once, **changed)


def test_labels_that_come_in_pieces_are_as_those_of_a_record():
    random = np.random.default_rng(0)
    data = stream(random, skills(random, 1000, 4, "abrupt"), delay=100, missing=0.1)
    order, _ = data.in_order_of_labels()
    times = LabelTimes(order, data.came[order])
    whole = live_through("y", "abcd", PINNED, times, data.cells[order], data.present[order], data.truth[order])
    found = taught(data, Learner(start(at_once=True))).report()
    last = found["standings"][-1]
    assert last["labels"] == whole.end.labels == 1000
    assert last["total"] == pytest.approx(whole.end.loss)
    np.testing.assert_allclose(last["weights"], whole.weights[-1])
    np.testing.assert_allclose([one["bound"] for one in last["rivals"]], [one.bound for one in whole.end.rivals])
    assert [one["labels"] for one in found["changes"]] == [one.labels for one in whole.changes]
    assert len(found["standings"]) <= 25


def test_permuted_labels_publish_nothing_however_often_it_is_looked():
    wrong = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        data = stream(random, np.tile(SKILLS, (300, 1)), classes=3, delay=20)
        data.truth = random.permutation(data.truth)
        wrong += bool(taught(data, Learner(start())).publisher.changes)
    assert wrong <= 5


def test_what_was_better_is_live_and_taken_back_when_it_is_worse_and_is_so_after_a_restart():
    random = np.random.default_rng(2)
    rows = np.repeat([SKILLS * [-1, 1, 1, 1], SKILLS], [700, 1500], axis=0)
    data = stream(random, rows, delay=50)
    learner = taught(data, Learner(start()), 200, most=1)
    changes = learner.publisher.changes
    assert [one.taken_back for one in changes] == [False, True]
    assert changes[1].labels - 700 < 300
    again = Learner(start(changes=tuple(changes)))
    assert again.publisher is not None
    np.testing.assert_array_equal(again.publisher.live, learner.publisher.live)
    taught(data, again, most=0)
    np.testing.assert_allclose(again.report()["standings"][-1]["weights"], learner.report()["standings"][-1]["weights"])


def test_answers_that_were_given_before_somebody_deployed_decide_nothing():
    random = np.random.default_rng(2)
    data = stream(random, np.tile(SKILLS * [-1, 1, 1, 1], (600, 1)), delay=50)
    assert taught(data, Learner(start())).publisher.changes
    assert not taught(data, Learner(start(since_us=600))).publisher.changes


def test_of_other_losses_nothing_is_live():
    random = np.random.default_rng(0)
    data = stream(random, np.tile(SKILLS, (200, 1)))
    found = taught(data, LossLearner(start(), "squared error")).report()
    assert (found["changes"], found["live"], found["loss"]) == ([], None, "squared error")
    assert found["standings"][-1]["rivals"][0]["regret"] <= found["standings"][-1]["rivals"][0]["bound"]


def test_a_state_knows_what_is_its_own_after_it_died_midway():
    state, spec = OnlineState(), parse_spec(two_known("known"))
    state.reset(spec, {"fused": {"a": 0.5, "b": 0.5}}, 1)
    assert not state.own
    state.begun = Publication("f", "r", 0, False, {"fused": {"a": 0.2, "b": 0.8}}, {"fused": 0.1}, {"fused": 300})
    again = OnlineState.from_json(_stored(state))
    assert again == state
    again.take_over(again.went_live(2))
    assert again.own
    (change,) = again.changes_of("fused")
    np.testing.assert_allclose(change.weights, [0.2, 0.8])
    assert isinstance(change, Change)
    assert (again.published, again.rolled_back, again.begun) == (1, 0, None)
    assert OnlineState.from_json(b'{"state": {"of_another_version": 1}}') == OnlineState()


def test_what_is_beside_answers_makes_no_other_fusion():
    plain = two_known("known")
    beside = {**plain, "record": {"folder": "/r"}, "online": "live", "placement": "together"}
    other = {**plain, "fusion": {**plain["fusion"], "weights": {"a": 0.2, "b": 0.8}}}
    assert fusion_name(parse_spec(beside)) == fusion_name(parse_spec(plain)) != fusion_name(parse_spec(other))


def _stored(state):
    import json

    return json.dumps({"state": state.to_json(), "report": {}}).encode()
