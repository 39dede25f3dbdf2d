"""What was lost over the latest answers is known by when they were given, in whatever order their labels come."""

import numpy as np

from quorate.deployments.learning.online.latest_answers import LatestAnswers


def most_lost(times, lost, most):
    """The same, from all of them."""
    order = np.argsort(times, kind="stable")[-most:]
    return max(0.0, lost[order][::-1].cumsum().max())


def test_it_is_the_most_over_any_number_of_the_latest_answers():
    random = np.random.default_rng(0)
    times, lost = np.arange(300) + random.integers(0, 80, 300), random.normal(size=300)
    for most in (1, 7, 50, 400):
        found = LatestAnswers(most).add(times, lost)
        for at in range(300):
            np.testing.assert_allclose(found[at], most_lost(times[: at + 1], lost[: at + 1], most), atol=1e-9)


def test_labels_in_pieces_are_as_labels_at_once_and_a_copy_goes_on_by_itself():
    random = np.random.default_rng(1)
    times, lost = random.integers(0, 1000, 200), random.normal(size=200)
    whole, parts = LatestAnswers(50), LatestAnswers(50)
    found = whole.add(times, lost)
    first = parts.add(times[:77], lost[:77])
    parts.copy().add(times[:9], lost[:9] + 5)
    np.testing.assert_array_equal(found, np.concatenate([first, parts.add(times[77:], lost[77:])]))


def test_late_labels_of_better_times_do_not_hide_what_is_lost_since():
    answered = np.array([10, 1, 11, 2, 12, 3])  # every other label is of a row of before
    lost = np.array([1.0, -2.0, 1.0, -2.0, 1.0, -2.0])
    assert LatestAnswers(2000).add(answered, lost).tolist() == [1, 1, 2, 2, 3, 3]
