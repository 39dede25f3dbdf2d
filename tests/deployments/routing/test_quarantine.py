"""Which rows are held back from a member whose replicas died with them."""

import numpy as np
import pytest

from quorate.deployments.routing.quarantine import COUNTS_S, MAX_ROWS, Quarantine
from quorate.deployments.transport.messages import Payload
from tests.deployments.support.hand_clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def quarantine(clock):
    return Quarantine(clock)


def rows(*numbers):
    """Two tensors; a row holds its number in both."""
    return Payload(
        [np.array([[n, 0.5] for n in numbers]), np.array([[b"x", str(n).encode()] for n in numbers], object)]
    )


def test_a_row_is_held_back_after_the_second_replica_that_died_with_it(quarantine):
    assert not quarantine.deaths
    quarantine.add(rows(1, 2, 3), "r1")
    assert quarantine.deaths
    assert quarantine.held(rows(1, 2, 3)).tolist() == [False] * 3
    quarantine.add(rows(2, 9), "r2")
    assert quarantine.held(rows(9, 2, 1)).tolist() == [False, True, False]


def test_one_replica_that_had_a_row_in_several_calls_died_once(quarantine):
    for _ in range(5):
        quarantine.add(rows(1, 1), "r1")
    assert quarantine.held(rows(1)).tolist() == [False]


def test_a_row_that_has_been_run_is_forgotten(quarantine):
    quarantine.add(rows(1, 2), "r1")
    quarantine.clear(rows(1))
    quarantine.add(rows(1, 2), "r2")
    assert quarantine.held(rows(1, 2)).tolist() == [False, True]


def test_a_death_counts_for_a_while(quarantine, clock):
    quarantine.add(rows(1), "r1")
    clock.now += COUNTS_S
    quarantine.add(rows(1), "r2")
    assert not quarantine.held(rows(1)).any()
    quarantine.add(rows(1), "r3")
    assert quarantine.held(rows(1)).all()
    clock.now += COUNTS_S
    assert not quarantine.held(rows(1)).any()
    assert not quarantine.deaths


def test_rows_that_differ_in_any_tensor_are_others(quarantine):
    number, text = np.array([[1.0]]), np.array([[b"a"]], object)
    for replica in ("r1", "r2"):
        quarantine.add(Payload([number, text]), replica)
    assert quarantine.held(Payload([number, text])).all()
    assert not quarantine.held(Payload([number, np.array([[b"b"]], object)])).any()
    assert not quarantine.held(Payload([number + 1, text])).any()


def test_long_rows_are_told_apart_and_many_are_let_go(quarantine):
    image = np.random.default_rng(0).random((2, 3, 300, 300))
    for replica in ("r1", "r2"):
        quarantine.add(Payload([image[:1]]), replica)
    assert quarantine.held(Payload([image])).tolist() == [True, False]
    quarantine.add(rows(*range(MAX_ROWS)), "r1")
    assert not quarantine.held(Payload([image])).any()
