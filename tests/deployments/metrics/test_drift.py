"""What is counted of a row in a while: which class was answered, and how far each member was from the answer."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from scipy.spatial.distance import jensenshannon

from quorate.deployments.metrics import drift
from quorate.deployments.metrics.drift import MAX_CLASSES, Drift

GIVEN = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
THERE = np.array([True, True])


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def looking(registry):
    found = Drift("e", registry)
    found.know("ab")
    return found


def distances(registry):
    found = {}
    for member in "ab":
        labels = {"ensemble": "e", "member": member}
        total, count = (
            registry.get_sample_value(f"quorate_member_deviation_{part}", labels) for part in ("sum", "count")
        )
        found[member] = (total / count if count else None, count)
    return found


def test_a_members_distance_is_the_total_variation_from_the_answer(looking, registry):
    answer = np.array([0.5, 0.3, 0.2])
    looking.look("fused", ["r", "g", "b"], "ab", GIVEN, THERE, answer)
    # By definition: the most by which two distributions differ on any set of classes.
    sets = [[n for n in range(3) if bits >> n & 1] for bits in range(8)]
    for member, given in zip("ab", GIVEN, strict=True):
        most = max(abs(given[chosen].sum() - answer[chosen].sum()) for chosen in sets)
        found, count = distances(registry)[member]
        assert (found, count) == (pytest.approx(most), 1)
        assert jensenshannon(given, answer, base=2) ** 2 <= found  # Lin 1991
    labels = {"ensemble": "e", "output": "fused", "class": "r"}
    assert registry.get_sample_value("quorate_sampled_rows_total", labels) == 1


def test_of_values_it_is_the_mean_absolute_difference_and_a_member_that_is_missing_has_none(looking, registry):
    looking.look("fused", None, "ab", np.array([[3.0, 5.0], [0.0, 0.0]]), np.array([True, False]), np.array([1.0, 4.0]))
    assert distances(registry) == {"a": (1.5, 1), "b": (None, 0)}


def test_what_members_do_not_give_alike_and_many_classes_are_not_counted(looking, registry):
    looking.look("fused", ["r", "g"], "ab", np.ones((1, 7)), THERE, np.array([0.5, 0.5]))
    looking.look("fused", ["r", "g"], "ab", np.ones((1, 2)), THERE, np.array([0.5, 0.5]))  # features side by side
    many = [str(n) for n in range(MAX_CLASSES + 1)]
    looking.look("wide", many, "ab", np.full((2, len(many)), np.nan), THERE, np.ones(len(many)) / len(many))
    assert distances(registry) == {"a": (None, 0), "b": (None, 0)}
    assert (
        registry.get_sample_value("quorate_sampled_rows_total", {"ensemble": "e", "output": "wide", "class": "0"})
        is None
    )


def test_rows_are_looked_at_no_more_often_than_allowed_and_take_turns(looking, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("quorate.deployments.metrics.drift.time.monotonic", lambda: now[0])
    chosen = []
    for _ in range(1000):
        chosen.append(looking.row(4))
        now[0] += drift.PERIOD_S / 10
    looked = [row for row in chosen if row is not None]
    assert 90 <= len(looked) <= 101
    assert set(looked) == {0, 1, 2, 3}
