"""A record is lived through again: weights learn from labels as they came, and each answer uses those known then."""

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.label_files import LabelFiles, LabelRow
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.online.history import LabelTimes
from quorate.deployments.learning.reading import open_record
from quorate.tuning.evaluation.replay import ONLINE, PUBLISHED, RECORDED, replay
from quorate.tuning.solvers.simplex import simplex_weights
from tests.deployments.learning.test_replaying import CLASSES, record, requests_of, spec_of
from tests.deployments.support.member_threads import FACTORIES

WEIGHTS = {"a": 0.9, "b": 0.1, "c": 0.0001}


def told_by(folder, member, count=1500, late_us=1, seed=0):
    """A record of answers, live by weights that hardly know the member whose probabilities labels are drawn from."""
    record(spec_of("weighted_mean", weights=WEIGHTS), folder, requests_of(count, seed))
    random, rows_of = np.random.default_rng(seed), []
    for rows in open_record(folder).rows():
        shares = rows.outputs[rows.about.members.index(member)].astype(np.float64)
        truth = (shares.cumsum(axis=1) / shares.sum(axis=1, keepdims=True) > random.random((len(rows), 1))).argmax(
            axis=1
        )
        rows_of += [
            LabelRow(i, int(n), "", Label((CLASSES[one],)), int(at) + late_us)
            for i, n, one, at in zip(rows.ids, rows.numbers, truth, rows.times_us, strict=True)
        ]
    give(folder, rows_of)
    return rows_of


def give(folder, labels, replica="0" * 12):
    files = LabelFiles(RecordFolder(folder / "kept"), replica)
    files.append(labels)
    files.close()


def columns(folder, labels):
    """(M, N) of what was true in the order in which labels came; 1 where a member gave nothing."""
    (rows,) = open_record(folder).rows()
    truth = {(one.id, one.row): CLASSES.index(one.label.classes[0]) for one in labels}
    keys = list(zip(rows.ids.tolist(), rows.numbers.tolist(), strict=True))
    there = [at for at, key in enumerate(keys) if key in truth]
    return rows.outputs[:, there, [truth[keys[at]] for at in there]].astype(np.float64)


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lived")
    labels = told_by(folder, "c")
    return folder, labels, replay(open_record(folder), online=True)


def test_weights_go_to_the_member_that_labels_agree_with_and_go_live_once_that_is_shown(lived):
    _, labels, found = lived
    history = found.online["fused"]
    assert (history.end.labels, history.members) == (len(labels), ("a", "b", "c"))
    assert history.weights[-1][2] > 0.8
    assert not history.changes[0].taken_back
    assert history.changes[0].weights[2] > 0.5
    scores = [found.scores["fused", who]["log_loss"].value for who in (ONLINE, PUBLISHED, RECORDED)]
    assert scores == sorted(scores)


def test_regret_is_against_the_best_in_hindsight_and_within_its_bound(lived):
    folder, labels, found = lived
    history = found.online["fused"]
    for standing in history.standings:
        for rival in standing.rivals:
            assert standing.loss - rival.loss <= rival.bound
    (rows,) = open_record(folder).rows()
    assert (rows.states == 0).mean() > 0.98  # where b is missing it is taken to have said what the others said
    given = columns(folder, labels)
    best = simplex_weights(np.stack([given, 1 - given], axis=2), np.zeros(given.shape[1], int))
    assert history.end.rivals[1].loss / history.end.labels == pytest.approx(best.score, abs=0.02)


def test_an_answer_uses_the_weights_of_labels_that_had_come_before_it(tmp_path):
    told_by(tmp_path, "c", count=300, late_us=10**9)  # all come when all is answered
    history = replay(open_record(tmp_path), online=True).online["fused"]
    (rows,) = open_record(tmp_path).rows()
    first = history.learned_at(rows.times_us)
    assert (first == history.weights[0]).all()
    assert history.end.stale > 0
    assert "late labels cost" in repr(history)


def test_a_label_that_comes_twice_counts_once_and_one_that_never_comes_counts_nowhere(tmp_path):
    labels = told_by(tmp_path, "c", count=100)
    once = replay(open_record(tmp_path), online=True)
    give(tmp_path, [one._replace(time_us=one.time_us + 5) for one in labels[::2]], "1" * 12)
    twice = replay(open_record(tmp_path), online=True)
    assert twice.again == len(labels[::2])
    assert (twice.online["fused"].weights == once.online["fused"].weights).all()
    fewer = tmp_path / "fewer"
    labels = told_by(fewer, "c", count=100)
    (file,) = (fewer / "kept" / "labels").glob("*.arrow")
    file.unlink()
    give(fewer, labels[::3])
    assert replay(open_record(fewer), online=True).online["fused"].end.labels == len(labels[::3])


def test_any_weights_are_a_prior(tmp_path):
    told_by(tmp_path, "c", count=60)
    other = parse_spec(spec_of("weighted_mean", weights={"a": 0.25, "b": 0.25, "c": 0.5}))
    history = replay(open_record(tmp_path), other, FACTORIES, online=True).online["fused"]
    assert history.pinned == pytest.approx([0.25, 0.25, 0.5])
    assert history.weights[0] == pytest.approx([0.25, 0.25, 0.5], abs=0.03)


def test_a_rule_that_is_no_weighted_mean_is_learned_beside_and_never_replaced(tmp_path):
    record(spec_of("median"), tmp_path, requests_of(40))
    (rows,) = open_record(tmp_path).rows()
    give(
        tmp_path,
        [
            LabelRow(i, int(n), "", Label((CLASSES[0],)), int(at) + 1)
            for i, n, at in zip(rows.ids, rows.numbers, rows.times_us, strict=True)
        ],
    )
    found = replay(open_record(tmp_path), online=True)
    assert "its weights cannot go live" in repr(found)
    assert found.online["fused"].live_at(rows.times_us) is None
    assert ("fused", PUBLISHED) not in found.scores


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_values_and_several_labels_a_row_have_weights_too_and_a_bound_against_the_best_member(tmp_path, task):
    spec = spec_of("weighted_mean", weights=WEIGHTS) | {"task": task}
    if task == "regression":
        values = {name: one | {"output": "values"} for name, one in spec["members"].items()}
        spec = {key: value for key, value in spec.items() if key not in ("classes", "task")} | {"members": values}
    record(spec, tmp_path, requests_of(400, odd=False))
    given, random = [], np.random.default_rng(0)
    for rows in open_record(tmp_path).rows():
        for at, shares in enumerate(rows.outputs[2]):
            held = tuple(name for name, share in zip(CLASSES, shares, strict=True) if share > random.random())
            label = Label(held) if task == "multilabel" else Label(values=tuple(map(float, shares)))
            given.append(LabelRow(rows.ids[at], int(rows.numbers[at]), "", label, int(rows.times_us[at]) + 1))
    give(tmp_path, given)
    found = replay(open_record(tmp_path), online=True)
    history = found.online["fused"]
    (rival,) = history.end.rivals
    assert (rival.name, history.end.labels) == ("best member, c", len(given))
    assert history.end.loss - rival.loss <= rival.bound
    assert history.weights[-1][2] > 0.5
    scores = [next(iter(found.scores["fused", who].values())).value for who in (ONLINE, RECORDED)]
    assert scores == sorted(scores)
    assert ("fused", PUBLISHED) not in found.scores


def test_a_record_without_labels_says_how_to_give_some(tmp_path):
    record(spec_of("mean"), tmp_path, requests_of(3))
    with pytest.raises(RequestError, match="quorate feedback"):
        replay(open_record(tmp_path), online=True)


def test_labels_are_known_to_answers_that_were_given_after_they_came():
    times = LabelTimes(np.array([0, 1, 5, 7]), np.array([5, 6, 9, 9]))
    assert times.known.tolist() == [0, 0, 1, 2]
