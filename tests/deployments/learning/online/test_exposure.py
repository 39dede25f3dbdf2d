"""While labels are outstanding only so much of learned weights is live as may be lost before they come."""

import numpy as np

from quorate.deployments.learning.online.exposure import ALLOWED, REMEMBERED, Exposure

PINNED, LEARNED = np.array([1.0, 0.0]), np.array([0.04, 0.96])
GOOD, BAD = [0.8, 0.3], [0.3, 0.8]


def seen(rows, late):
    """How much may be live after (N, 2) rows, each overtaken by so many labels."""
    exposure, rows = Exposure(PINNED), np.reshape(rows, (-1, 2))
    count = len(rows)
    for start in range(0, count, 128):
        part = np.arange(start, min(start + 128, count))
        exposure.add(part, np.full(len(part), late), rows[part], np.ones((len(part), 2), np.bool_))
    return exposure.share(LEARNED)[0]


def lost(share, rows):
    """Against the pinned weights, by the second weights' share."""
    weights = share * LEARNED + (1 - share) * PINNED
    return np.log((rows @ PINNED) / (rows @ weights)).sum()


def test_all_of_it_may_be_live_where_labels_come_at_once_or_where_it_never_was_worse():
    assert seen([GOOD] * 500 + [BAD] * 500, 0) == 1
    assert seen([GOOD] * 500 + [BAD] * 500, 1) == 1
    assert seen([BAD] * 1000, 200) == 1
    assert seen([], 0) == 1


def test_no_more_is_lost_than_is_allowed_should_the_world_change_back():
    share = seen([GOOD] * 500 + [BAD] * 100, 200)
    assert 0.8 * ALLOWED < lost(share, np.array([GOOD] * 200)) <= ALLOWED


def test_labels_that_come_later_leave_less_even_where_fewer_rows_are_known():
    shares = [seen([GOOD] * 100 + [BAD] * 100, late) for late in (3, 30, 100, 1000)]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < 0.2 * shares[1]


def test_a_world_that_is_long_gone_is_not_expected_back():
    assert seen([GOOD] * 500 + [BAD] * (REMEMBERED - 400), 200) < 1
    assert seen([GOOD] * 500 + [BAD] * REMEMBERED, 200) == 1


def test_rows_count_by_when_they_were_answered_and_those_without_pinned_members_do_not():
    rows = np.array([GOOD] * 500 + [BAD] * 500)
    order = np.random.default_rng(0).permutation(1000)
    exposure = Exposure(PINNED)
    exposure.add(order, np.full(1000, 200), rows[order], np.ones((1000, 2), np.bool_))
    alone = np.tile([False, True], (50, 1))
    exposure.add(np.arange(50) + 2000, np.full(50, 200), np.full((50, 2), 0.5), alone)
    share, since = exposure.share(LEARNED)
    assert share == seen(rows, 200)
    assert sorted(order[since]) == list(range(500, 1000))
    assert exposure.gain(PINNED, LEARNED, since) < 0 < exposure.gain(LEARNED, PINNED, since)
