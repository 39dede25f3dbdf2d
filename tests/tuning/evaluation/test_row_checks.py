"""What is said of rows: rows of one group are no independent draws."""

import numpy as np

from quorate.tuning import Outputs
from quorate.tuning.alternatives.base import as_lists
from quorate.tuning.evaluation.row_checks import known_by_heart, shifts

GROUPS, ROWS = 40, 25


def halves(outputs, seed):
    """Half of the groups each."""
    known = np.unique(outputs.groups)
    first = np.isin(outputs.groups, np.random.default_rng(seed).permutation(known)[: len(known) // 2])
    return outputs.rows(np.flatnonzero(first)), outputs.rows(np.flatnonzero(~first))


def patients(seed, spread=1.0, groups=GROUPS):
    """A value for each patient, nearly the same in each row; a member whose error is the patient's, too."""
    random = np.random.default_rng(seed)
    number = np.repeat(np.arange(groups), ROWS)
    truth = random.normal(size=groups)[number] + random.normal(0, 0.05, len(number))
    error = np.exp(spread * random.normal(size=groups))[number]
    return Outputs(("a",), (truth + error)[None, :, None], truth, groups=number)


def test_halves_of_the_same_patients_values_are_not_called_shifted():
    found = [shifts(*halves(patients(seed), seed)) for seed in range(40)]
    assert sum(map(len, found)) == 0


def test_values_that_are_others_are_still_said():
    solve, judge = halves(patients(0, groups=200), 0)
    moved = Outputs(judge.names, judge.probs + 2, judge.labels + 2, groups=judge.groups)
    assert len(shifts(solve, moved)) == 1


def test_a_member_that_happens_to_do_well_on_a_few_patients_does_not_know_them_by_heart():
    found = [known_by_heart(*halves(patients(seed, spread=2.0, groups=6), seed)) for seed in range(40)]
    assert sum(map(len, found)) == 0


def test_lists_whose_entries_are_alike_are_not_called_shifted():
    for seed in range(40):
        rows = patients(seed)
        lists = as_lists(Outputs(rows.names, rows.probs, np.abs(rows.labels), groups=rows.groups), rows.groups)
        assert not shifts(*halves(lists, seed))
