import pytest

from quorate.tuning.search.generations import generation, unfinished


def test_a_generation_waits_for_all_but_the_one_before_it():
    assert generation(0, 3, 8) == (range(3), range(0))
    assert generation(1, 3, 8) == (range(3, 6), range(0))
    assert generation(2, 3, 8) == (range(6, 8), range(3))
    assert not generation(3, 3, 8)[0]


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        (set(), 0),
        ({0, 2}, 0),
        ({0, 1, 2}, 1),
        ({0, 1, 2, 3, 4, 5}, 2),
        (set(range(8)), 3),
    ],
)
def test_generations_that_have_run_are_passed_over(finished, expected):
    found = unfinished(0, 3, 8, finished)
    assert found is not None
    assert found[0] == expected


def test_it_is_too_early_for_a_generation_while_one_before_the_last_has_trials_to_run():
    assert unfinished(2, 3, 8, {0, 1}) is None
