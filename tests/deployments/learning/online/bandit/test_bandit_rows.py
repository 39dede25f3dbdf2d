"""What rows tell of sets of members is right on average over whom they might have asked: by asking all of these."""

import numpy as np
import pytest
import torch

from quorate.deployments.learning.online.bandit.deciding import _differences
from quorate.deployments.learning.online.bandit.rows import pulled_by, tell
from tests.deployments.support.policy_streams import World, fitted

RANDOM = np.random.default_rng(0)
WORLD = World()
RULE = fitted(WORLD, RANDOM, explore=0.2)
OUTPUTS, TRUTH = WORLD.rows(200, RANDOM)
EVERYONE = torch.ones(OUTPUTS.shape[:2], dtype=torch.bool)


def told(members):
    """As if these had been asked of all rows, and no others."""
    asked = torch.tensor([name in members for name in RULE.members]).unsqueeze(1).expand(OUTPUTS.shape[:2])
    read = torch.where(asked.unsqueeze(-1), OUTPUTS, torch.nan)
    fused = RULE.at_price(-2.0).fuse(OUTPUTS).values.numpy()
    return tell(RULE, read, asked, pulled_by(RULE, read, asked), TRUTH, fused, (np.arange(200), np.arange(200) + 1))


SETS = [frozenset((*RULE.first, *arm)) for arm in RULE.arms]
TOLD = [told(members) for members in SETS]
CHANCES = RULE.chances(OUTPUTS, EVERYONE).numpy()
# (N, K) of everything that is known to who has asked all.
RIGHT = (RULE.answers(OUTPUTS).argmax(dim=2).numpy() == TRUTH).T.astype(np.float64)


@pytest.mark.parametrize("one", range(4))
@pytest.mark.parametrize("other", range(4))
def test_the_difference_of_two_sets_is_the_true_one_over_all_that_may_have_been_asked(one, other):
    chosen, against = np.full((200, 1), one), np.full(200, other)
    found = [_differences(rows, chosen, against) for rows in TOLD]
    estimated = sum(CHANCES[:, [at]] * values for at, (values, _) in enumerate(found))
    true = (RIGHT[:, one] - RIGHT[:, other])[:, None]
    np.testing.assert_allclose(estimated, true, atol=1e-12)
    pulled = CHANCES > 0
    for at, (_, worst) in enumerate(found):
        assert (worst[pulled[:, at]] <= true[pulled[:, at]]).all()
        most = _differences(TOLD[at], chosen, against, worst=False)[1]
        assert (most[pulled[:, at]] >= true[pulled[:, at]]).all()


def test_of_a_set_it_is_known_what_it_answers_where_all_its_members_were_asked():
    for members, rows in zip(SETS, TOLD, strict=True):
        known = [one <= members for one in SETS]
        assert (rows.known == known).all()
        np.testing.assert_array_equal(rows.rewards[:, known], RIGHT[:, known])
        np.testing.assert_array_equal(rows.alone, RIGHT[:, RULE.arms.index(())])
    seen = sum(CHANCES[:, [at]] * rows.known for at, rows in enumerate(TOLD))
    np.testing.assert_allclose(TOLD[0].chances, seen)
