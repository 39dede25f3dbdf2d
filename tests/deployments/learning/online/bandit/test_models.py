"""Models of sets are ridge regressions of all rows so far, however these came: numpy's, of everything at once."""

import numpy as np
import pytest

from quorate.deployments.learning.online.bandit.models import PRIOR, ArmModels
from quorate.deployments.learning.online.bandit.rows import ToldRows

ROWS, WIDTH, ARMS, KEPT = 300, 4, 3, 1 - 1 / 50


def made(random):
    context = np.concatenate([np.ones((ROWS, 1)), random.normal(size=(ROWS, WIDTH - 1))], axis=1)
    known = random.random((ROWS, ARMS)) < [1.0, 0.6, 0.3]
    known[:, 1] |= known[:, 2]
    seen = np.ones((ROWS, ARMS, ARMS)) * np.array([1.0, 0.72, 0.3])[None, None]
    rewards = np.where(known, random.random((ROWS, ARMS)) < 0.7, np.nan)
    alone = (random.random(ROWS) < 0.5).astype(float)
    zeros, times = np.zeros(ROWS), np.arange(ROWS)
    return ToldRows(context, seen, known, rewards, alone, zeros, zeros, zeros, zeros, times, times, times)


def expected(rows, first):
    """By least squares over rows and as many that only say what is known before."""
    ages = KEPT ** np.arange(ROWS - 1, -1, -1.0)
    each = (rows.context * ages[:, None]).T @ rows.context / ages.sum() + 1e-6 * np.eye(WIDTH)
    before = np.linalg.cholesky(PRIOR * each).T

    def solved(counts, values, model):
        counts = counts * counts.sum() / (counts**2).sum()
        root = np.sqrt(counts)[:, None]
        stacked = np.concatenate([root * rows.context, before])
        return np.linalg.lstsq(stacked, np.concatenate([root[:, 0] * values, before @ model]), rcond=None)[0]

    alone = solved(ages, rows.alone, first[0])
    more = [
        solved(
            np.where(rows.known[:, arm], ages / rows.chances[:, arm], 0.0),
            np.where(rows.known[:, arm], np.nan_to_num(rows.rewards[:, arm]) - rows.alone, 0.0), first[arm] - first[0],
        )
        for arm in range(ARMS)
    ]  # fmt: skip
    return np.stack([alone + one for one in more])


@pytest.mark.parametrize("at_once", [1, 7, ROWS])
def test_models_are_those_of_all_rows_weighed_by_their_chances_and_their_age(at_once):
    random = np.random.default_rng(0)
    rows, first = made(random), random.normal(size=(ARMS, WIDTH))
    models = ArmModels(first, 0, remembered=50)
    for start in range(0, ROWS, at_once):
        models.learn(rows.part(slice(start, start + at_once)))
    np.testing.assert_allclose(models.theta, expected(rows, first), atol=1e-8)


def test_before_any_row_they_are_those_that_were_deployed():
    first = np.random.default_rng(1).normal(size=(ARMS, WIDTH))
    models = ArmModels(first, 0)
    models.learn(made(np.random.default_rng(0)).part(slice(0, 0)))
    np.testing.assert_array_equal(models.theta, first)
