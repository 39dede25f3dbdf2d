"""Sums over members: order-free to the last bit, and right."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.fusion import Mean, Product, WeightedMean
from quorate.fusion.numerics.order_free import weighted_sum

finite = st.floats(-(2.0**127), 2.0**127, width=32)


def shuffled(size: int, random: Any) -> torch.Tensor:
    return torch.tensor(random.sample(range(size), size))


@settings(max_examples=200)
@given(st.lists(st.floats(1e-200, 1), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_no_order_changes_a_bit_of_the_share_that_answered(weights: list[float], random: Any) -> None:
    order = shuffled(len(weights), random)
    outputs, there = torch.rand(len(weights), 2, 3), torch.ones(len(weights), 2, dtype=torch.bool)
    there[: len(weights) // 2, 0] = False
    coverage = WeightedMean(weights).fuse(outputs, there).coverage
    moved = WeightedMean([weights[index] for index in order]).fuse(outputs[order], there[order]).coverage
    assert torch.equal(coverage, moved)
    left = math.fsum(weights[len(weights) // 2 :]) / math.fsum(weights)
    assert coverage.tolist() == pytest.approx([left, 1.0], rel=1e-6, abs=1e-38)


@settings(max_examples=100)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_no_order_changes_a_ratio_of_products(factors: list[float], spread: int, random: Any) -> None:
    """Factors down to float32's smallest and long runs of them: products far below float64's range."""
    column = torch.tensor(factors, dtype=torch.float64)
    both = torch.stack([column, column.clamp(min=1e-45) / spread], dim=1).unsqueeze(1)  # (M, 1, 2)
    rule = Product(len(factors))
    assert torch.equal(rule.fuse(both).values, rule.fuse(both[shuffled(len(factors), random)]).values)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0, 1), finite), min_size=1, max_size=9),
    st.randoms(use_true_random=False),
)
def test_weighted_sum_is_the_float64_sum_rounded_once(pairs: list[tuple[float, float]], random: Any) -> None:
    pairs = [(w / len(pairs) if w > 1e-200 else 0.0, t) for w, t in pairs]
    weights = torch.tensor([w for w, _ in pairs], dtype=torch.float64)
    terms = torch.tensor([t for _, t in pairs]).view(-1, 1, 1)
    order = shuffled(len(pairs), random)
    total = weighted_sum(weights, terms)
    assert torch.equal(total, weighted_sum(weights[order], terms[order]))
    per_row = weighted_sum(weights.unsqueeze(1), terms)
    assert torch.equal(total, per_row)
    products = [Fraction(w) * Fraction(float(t)) for w, t in zip(weights.tolist(), terms.flatten(), strict=True)]
    rounding = abs(sum(products)) * Fraction(2) ** -24 * Fraction(52, 50)
    in_float64 = sum(map(abs, products)) * (len(products) + 1) * Fraction(2) ** -52
    assert abs(Fraction(total.item()) - sum(products)) <= rounding + in_float64 + Fraction(2) ** -149


def test_sums_that_fall_between_two_float32_numbers_need_no_order() -> None:
    """The mean of two float32 numbers lies exactly between two others half of the time."""
    terms = torch.rand(2, 64, 1000, generator=torch.Generator().manual_seed(0))
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    total = weighted_sum(half, terms)
    assert torch.equal(total, weighted_sum(half, terms.flip(0)))
    torch.testing.assert_close(total.double(), terms.double().mean(0), rtol=2.0**-24 * 1.02, atol=0)


def test_terms_that_cancel_are_summed_in_float64() -> None:
    terms = torch.tensor([1e8, 1.0, -1e8, 1e-8]).view(4, 1, 1)
    ones = torch.ones(4, dtype=torch.float64)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [0, 2, 1, 3]):
        assert weighted_sum(ones, terms[order]).item() == pytest.approx(1.00000001, rel=2.0**-23)
    assert weighted_sum(ones[:2], terms[[0, 2]]).item() == 0


def test_ten_thousand_members_still_sum_to_one() -> None:
    probabilities = torch.randn(10_000, 2, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    shares = torch.full((10_000,), 1e-4, dtype=torch.float64)
    torch.testing.assert_close(weighted_sum(shares, probabilities).sum(-1), torch.ones(2), rtol=0, atol=2e-7)


@pytest.mark.parametrize("shape", [(3, 1, 700_000), (3, 90, 4_000), (2_000, 5, 300)])
def test_outputs_too_large_for_one_block_are_fused_alike(shape: tuple[int, int, int]) -> None:
    outputs = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    fused = Mean(shape[0]).fuse(outputs).values
    torch.testing.assert_close(fused.double(), outputs.double().mean(0), rtol=2.0**-24 * 1.02, atol=0)
    assert torch.equal(fused, Mean(shape[0]).fuse(outputs.flip(0)).values)
    product = Product(shape[0]).fuse(outputs[:, :, :200]).values
    assert torch.equal(product, Product(shape[0]).fuse(outputs[:, :, :200].flip(0)).values)
