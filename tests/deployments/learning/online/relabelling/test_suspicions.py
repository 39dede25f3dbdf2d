"""Classes are answered by what labels call them where that is shown, not by chance, and as long as it holds."""

from itertools import pairwise

import numpy as np
import pytest

from quorate.deployments.learning.online.history import LabelTimes, live_through
from quorate.deployments.learning.online.learner import Learner, Start
from quorate.deployments.learning.online.relabelling.likely import Likely
from quorate.deployments.learning.online.relabelling.matrix import answers_by
from quorate.deployments.learning.online.relabelling.report import lines
from tests.deployments.support.label_streams import stream

NAMES = ("a", "b", "c")
PINNED = np.full(3, 1 / 3)


def given(data, rows=slice(None)):
    """What is taken of labels in their order."""
    order = data.in_order_of_labels()[0][rows]
    likely = Likely.of(data.probs.transpose(1, 0, 2), data.present, data.truth)[order]
    return LabelTimes(order, data.came[order]), data.truth[order], data.cells[order], data.present[order], likely


def lived(data, classes, relabel=None):
    times, truth, cells, present, likely = given(data)
    names = tuple(f"c{one}" for one in range(classes))
    return live_through("y", NAMES, PINNED, times, cells, present, truth, likely, names, relabel)


def asked(seed, rows=1500, classes=4, skill=4.0, delay=50):
    return stream(np.random.default_rng(seed), np.full((rows, 3), skill), classes=classes, delay=delay)


def renamed(data, old, new, part):
    data.truth[part] = np.where(data.truth[part] == old, new, data.truth[part])
    return data


def right(found, data, part):
    """The share of answers that what was live then had right."""
    every = np.arange(len(data.truth))[part]
    pooled = np.einsum("nmc,nm->nc", data.probs[part], found.live_at(every))
    return (answers_by(found.live_names_at(every), pooled).argmax(axis=1) == data.truth[part]).mean()


@pytest.mark.parametrize("classes", [2, 4])
def test_a_class_of_another_name_is_answered_so_and_by_its_own_when_it_has_that_again(classes):
    data = renamed(asked(1, 4500, classes), 1, 0, slice(1000, 2000))
    before = right(lived(asked(1, 4500, classes), classes), data, slice(0, 1000))
    found = lived(data, classes)
    first = found.changes[0]
    assert 1000 < first.labels < 1250
    assert first.relabel.keys() == {"c1"}
    assert first.relabel["c1"]["c0"] > 0.75
    assert right(found, data, slice(1250, 2000)) >= before - 0.02
    back = next(one for one in found.changes[1:] if not one.relabel)
    assert 2000 < back.time_us < 2150
    assert right(found, data, slice(2150, 4500)) >= before - 0.02


def test_classes_that_have_changed_their_names_are_answered_so():
    data = asked(2, 2500)
    one, other = data.truth[1000:] == 1, data.truth[1000:] == 2
    data.truth[1000:][one], data.truth[1000:][other] = 2, 1
    found = lived(data, 4)
    assert found.changes[-1].relabel.keys() == {"c1", "c2"}
    assert right(found, data, slice(1400, 2500)) > 0.9


@pytest.mark.parametrize(
    ("noise", "streams"), [("permuted from the first on", 100), ("permuted from the middle on", 20), ("none", 20)]
)
def test_without_a_renaming_nothing_is_answered_otherwise(noise, streams):
    wrong = 0
    for seed in range(streams):
        data = asked(seed, 300, 2 + seed % 2, skill=2.0, delay=20)
        random, part = np.random.default_rng(seed), slice(150 if "middle" in noise else 0, None)
        if noise != "none":
            data.truth[part] = random.permutation(data.truth[part])
        wrong += any(one.relabel for one in lived(data, 2 + seed % 2).changes)
    assert wrong <= streams // 100


def test_labels_that_become_noise_where_one_class_is_frequent_call_nothing_by_its_name():
    for seed in range(6):
        random = np.random.default_rng(seed)
        truth = (random.random(1500) < 0.13).astype(np.int64)
        logits = random.normal(size=(1500, 3, 2))
        logits[np.arange(1500), :, truth] += 5
        data = asked(seed, 1500, 2)
        data.probs, data.truth = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True), truth
        data.truth[700:] = random.permutation(data.truth[700:])
        assert not any(one.relabel for one in lived(data, 2).changes)


def test_what_a_person_has_relabelled_is_nothing_new_and_gone_back_to():
    data = renamed(asked(3, 2500), 1, 0, slice(None))
    relabel = {"c1": {"c0": 1.0}}
    assert not lived(data, 4, relabel).changes
    data = renamed(asked(3, 2500), 1, 0, slice(0, 1000))
    changes = lived(data, 4, relabel).changes
    assert changes[0].relabel["c1"]["c1"] > 0.9


def test_labels_that_come_in_pieces_are_as_those_of_a_record_and_what_is_live_is_so_after_a_restart():
    data = renamed(asked(1), 1, 0, slice(700, None))
    names = tuple(f"c{one}" for one in range(4))
    whole, cuts = lived(data, 4), [0, 333, 800, 801, 1200, 1500]
    start = Start("y", NAMES, PINNED, classes=names)
    learner = Learner(start)
    for piece in pairwise(cuts):
        learner.take(*given(data, slice(*piece)))
    told = learner.report()
    assert [one["labels"] for one in told["changes"]] == [one.labels for one in whole.changes]
    assert told["changes"][0]["relabel"] == whole.changes[0].relabel
    (called,) = told["relabelled"]
    assert (called["class"], called["answered_as"]) == ("c1", whole.changes[0].relabel["c1"])
    (line,) = lines([{**called, "since_us": 1_790_000_000_000_000}], shadow=False)
    assert line.startswith("c1 is labelled c0: answered so since 2026-")
    again = Learner(Start("y", NAMES, PINNED, changes=tuple(whole.changes), classes=names, at_once=False))
    assert again.publisher is not None
    assert again.publisher.relabels.to_names(names) == whole.changes[-1].relabel
    for piece in pairwise(cuts):
        again.take(*given(data, slice(*piece)))
    assert again.publisher.wish is None
