"""Sums over members: order-free to the last bit, and right."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.fusion.summation import sum_members, weighted_sum

finite = st.floats(-(2.0**127), 2.0**127, width=32)


@settings(max_examples=200, deadline=None)
@given(st.lists(finite, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_no_order_changes_a_bit_of_any_float32_sum(terms: list[float], random: object) -> None:
    ordered = torch.tensor(terms).unsqueeze(1)
    shuffled = ordered[torch.tensor(random.sample(range(len(terms)), len(terms)))]  # type: ignore[attr-defined]
    assert torch.equal(sum_members(ordered), sum_members(shuffled))
    room = len(terms) ** 2 * max(map(abs, terms)) * 2.0**-51
    assert abs(sum_members(ordered).item() - math.fsum(terms)) <= room


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-45, 1e-38, 1.0, 1e38, 1e290])
def test_smallest_and_largest_numbers_are_summed_without_order(scale: float) -> None:
    terms = torch.rand(50, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * scale
    total = sum_members(terms)
    assert torch.isfinite(total).all()
    assert torch.equal(total, sum_members(terms.flip(0)))
    expected = torch.tensor([math.fsum(column) for column in terms.T.tolist()], dtype=torch.float64)
    torch.testing.assert_close(total, expected, rtol=1e-13, atol=1e-319)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), finite), min_size=1, max_size=9),
    st.randoms(use_true_random=False),
    st.sampled_from([0, 8]),
)
def test_weighted_sum_is_the_exact_sum_rounded_once(
    pairs: list[tuple[float, float]], random: object, guard_bits: int
) -> None:
    pairs = [(w if w > 1e-200 else 0.0, t) for w, t in pairs]
    weights = torch.tensor([w for w, _ in pairs], dtype=torch.float64)
    terms = torch.tensor([t for _, t in pairs]).view(-1, 1, 1)
    order = torch.tensor(random.sample(range(len(pairs)), len(pairs)))  # type: ignore[attr-defined]
    total = weighted_sum(weights, terms, guard_bits)
    assert torch.equal(total, weighted_sum(weights[order], terms[order], guard_bits))
    per_row = weighted_sum(weights.unsqueeze(1), terms, guard_bits)
    assert torch.equal(total, per_row)
    exact = sum(
        (Fraction(w) * Fraction(float(t)) for w, t in zip(weights.tolist(), terms.flatten(), strict=True)), Fraction()
    )
    assert abs(Fraction(total.item()) - exact) <= abs(exact) * Fraction(2) ** -(24 + guard_bits) * Fraction(52, 50)


def test_sums_that_fall_between_two_float32_numbers_need_no_order() -> None:
    """The mean of two float32 numbers lies exactly between two others half of the time."""
    terms = torch.rand(2, 64, 1000, generator=torch.Generator().manual_seed(0))
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    total = weighted_sum(half, terms)
    assert torch.equal(total, weighted_sum(half, terms.flip(0)))
    torch.testing.assert_close(total, terms.double().mean(0), rtol=2.0**-24 * 1.02, atol=0)


def test_terms_that_cancel_are_summed_exactly() -> None:
    terms = torch.tensor([1e8, 1.0, -1e8, 1e-8]).view(4, 1, 1)
    ones = torch.ones(4, dtype=torch.float64)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [0, 2, 1, 3]):
        assert weighted_sum(ones, terms[order]).item() == pytest.approx(1.00000001, rel=2.0**-23)
    assert weighted_sum(ones[:2], terms[[0, 2]]).item() == 0


def test_ten_thousand_members_still_sum_to_one() -> None:
    probabilities = torch.randn(10_000, 2, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    shares = torch.full((10_000,), 1e-4, dtype=torch.float64)
    torch.testing.assert_close(weighted_sum(shares, probabilities).float().sum(-1), torch.ones(2), rtol=0, atol=2e-7)
