"""Sums over members: right in float64, and the same bits for a number alone and among others."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.fusion import Mean, WeightedMean
from quorate.fusion.numerics.weighted_sum import weighted_sum, weighted_sum_of_arrays

finite = st.floats(-(2.0**127), 2.0**127, width=32)


@settings(max_examples=200)
@given(st.lists(st.floats(1e-200, 1), min_size=1, max_size=40))
def test_the_share_that_answered_is_the_sum_of_the_shares(weights: list[float]) -> None:
    outputs, there = torch.rand(len(weights), 2, 3), torch.ones(len(weights), 2, dtype=torch.bool)
    there[: len(weights) // 2, 0] = False
    coverage = WeightedMean(weights).fuse(outputs, there).coverage
    left = math.fsum(weights[len(weights) // 2 :]) / math.fsum(weights)
    assert coverage.tolist() == pytest.approx([left, 1.0], rel=1e-6, abs=1e-38)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(0, 1), finite), min_size=1, max_size=9))
def test_weighted_sum_is_the_float64_sum_rounded_once(pairs: list[tuple[float, float]]) -> None:
    weights = torch.tensor([w / len(pairs) if w > 1e-200 else 0.0 for w, _ in pairs], dtype=torch.float64)
    terms = torch.tensor([t for _, t in pairs]).view(-1, 1, 1)
    total = weighted_sum(weights, terms).float()
    assert torch.equal(total, weighted_sum(weights.unsqueeze(1), terms).float())
    products = [Fraction(w) * Fraction(float(t)) for w, t in zip(weights.tolist(), terms.flatten(), strict=True)]
    exact = sum(products, Fraction())
    rounding = abs(exact) * Fraction(2) ** -24
    in_float64 = sum(map(abs, products)) * (len(products) + 1) * Fraction(2) ** -52
    assert abs(Fraction(total.item()) - exact) <= rounding + in_float64 + Fraction(2) ** -149


@pytest.mark.parametrize("num_members", [1, 2, 3, 8, 9, 40, 300])
@pytest.mark.parametrize("by_row", [False, True])
def test_a_number_alone_has_the_bits_it_has_among_others(num_members: int, by_row: bool) -> None:
    random = np.random.default_rng(num_members)
    for batch, classes in ((1, 1), (1, 2), (2, 1), (7, 1), (3, 5), (2, 1001)):
        weights = random.random((num_members, batch) if by_row else num_members)
        terms = random.standard_normal((num_members, batch, classes)).astype(np.float32)
        total = weighted_sum(torch.from_numpy(weights), torch.from_numpy(terms)).numpy()
        moved = np.moveaxis(np.ascontiguousarray(np.moveaxis(terms, 0, -1)), -1, 0)
        np.testing.assert_array_equal(weighted_sum_of_arrays(weights, moved), total.astype(np.float32))
        for row in range(batch):
            own = torch.from_numpy(weights[:, row : row + 1] if by_row else weights)
            for column in (0, classes - 1):
                alone = torch.from_numpy(terms[:, row : row + 1, column : column + 1])
                assert weighted_sum(own, alone).item() == total[row, column]


def test_terms_that_cancel_are_summed_in_float64() -> None:
    terms = torch.tensor([1e8, 1.0, -1e8, 1e-8]).view(4, 1, 1)
    ones = torch.ones(4, dtype=torch.float64)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [0, 2, 1, 3]):
        assert weighted_sum(ones, terms[order]).item() == pytest.approx(1.00000001, rel=2.0**-23)
    assert weighted_sum(ones[:2], terms[[0, 2]]).item() == 0


def test_ten_thousand_members_still_sum_to_one() -> None:
    probabilities = torch.randn(10_000, 2, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    shares = torch.full((10_000,), 1e-4, dtype=torch.float64)
    total = weighted_sum(shares, probabilities).float().sum(-1)
    torch.testing.assert_close(total, torch.ones(2), rtol=0, atol=2e-7)


@pytest.mark.parametrize("shape", [(3, 1, 700_000), (3, 90, 4_000), (2_000, 5, 300)])
@pytest.mark.parametrize("by_row", [False, True])
def test_outputs_too_large_for_one_block_are_fused_alike(shape: tuple[int, int, int], by_row: bool) -> None:
    outputs = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    present = torch.ones(shape[:2], dtype=torch.bool)
    if by_row:
        present[0, -1] = False
    fused = Mean(shape[0]).fuse(outputs, present).values
    expected = outputs.double().mean(0)
    expected[-1] = outputs[int(by_row) :, -1].double().mean(0)
    torch.testing.assert_close(fused.double(), expected, rtol=2.0**-24 * 1.02, atol=0)
