"""Rules whose batch is one list."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, zscore
from torch import Tensor

from quorate.fusion import ListBorda, ListReciprocalRank, ListStandardScores, Rule
from quorate.fusion.errors import RuleOptionError
from tests.fusion.support.contract import FusionContract

WEIGHTS = [1.0, 2.0, 0.5]


class ListContract(FusionContract):
    sums_to_one = False
    differentiable = False
    one_member_is_itself = False
    absent_is_left_out = False  # of a list, not of a row: see below
    rows_apart = False


class TestListReciprocalRank(ListContract):
    def make(self, num_members: int) -> Rule:
        return ListReciprocalRank(num_members, [0.1 * (index + 1) for index in range(num_members)], k=10)


class TestListBorda(ListContract):
    def make(self, num_members: int) -> Rule:
        return ListBorda(num_members, [0.1 * (index + 1) for index in range(num_members)])


class TestListStandardScores(ListContract):
    def make(self, num_members: int) -> Rule:
        return ListStandardScores(num_members, [0.1 * (index + 1) for index in range(num_members)])


def scores(entries: int = 12) -> Tensor:
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 8, (3, entries, 1)).astype(np.float32))


def expected(points: list[np.ndarray], present: np.ndarray) -> np.ndarray:
    """The weighted mean of points over the members that scored an entry; each member's of its own entries."""
    total, weight = np.zeros(present.shape[1]), np.zeros(present.shape[1])
    for member, own in enumerate(points):
        total[present[member]] += WEIGHTS[member] * own
        weight[present[member]] += WEIGHTS[member]
    return total / weight


RULES = [
    (ListReciprocalRank(3, WEIGHTS), lambda own: 1 / (60 + rankdata(-own))),
    (ListBorda(3, WEIGHTS), lambda own: (len(own) - rankdata(-own)) / (len(own) - 1)),
    (ListStandardScores(3, WEIGHTS), zscore),
]


@pytest.mark.parametrize(("rule", "points"), RULES, ids=[rule.name for rule, _ in RULES])
@pytest.mark.parametrize("missing", [False, True])
def test_points_are_scipys_ranks_and_standard_scores_of_what_a_member_scored(rule, points, missing):
    outputs, present = scores(), torch.ones(3, 12, dtype=torch.bool)
    if missing:
        present[0, :3] = present[1, 2:6] = present[2, 9:] = False
    fused = rule.fuse(outputs, present).values[:, 0].numpy()
    own = [points(outputs[m, present[m], 0].numpy().astype(float)) for m in range(3)]
    np.testing.assert_allclose(fused, expected(own, present.numpy()), rtol=1e-5, atol=1e-7)


def test_lists_side_by_side_are_ranked_apart():
    outputs = torch.cat([scores(), scores().flip(1), scores() * 7], dim=2)
    for rule, _ in RULES:
        together = rule.fuse(outputs).values
        for column in range(3):
            alone = rule.fuse(outputs[:, :, column : column + 1]).values[:, 0]
            torch.testing.assert_close(together[:, column], alone)


def test_a_member_that_scores_all_alike_moves_nobody():
    outputs = scores()
    outputs[1] = 0.1
    fused = ListStandardScores(3).fuse(outputs).values[:, 0].numpy()
    np.testing.assert_allclose(fused, (zscore(outputs[0, :, 0]) + zscore(outputs[2, :, 0])) / 3, rtol=1e-5, atol=1e-6)


def test_a_k_that_is_none_is_refused():
    with pytest.raises(RuleOptionError, match="above -1"):
        ListReciprocalRank(2, k=-1.0)
