"""Products over members: no underflow, no overflow, and the same bits for a row alone and among others."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.fusion import Product


@settings(max_examples=100)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(1, 4))
def test_a_row_beside_one_that_underflows_keeps_its_bits(factors: list[float], spread: int) -> None:
    """Factors down to float32's smallest and long runs of them: products far below float64's range."""
    column = torch.tensor(factors)
    row = torch.stack([column, column.clamp(min=1e-45) / spread], dim=1).unsqueeze(1)  # (M, 1, 2)
    rule = Product(len(factors))
    for other in (1e-45, 0.5):
        beside = torch.cat([row, torch.full_like(row, other)], dim=1)
        assert torch.equal(rule.fuse(beside).values[0], rule.fuse(row).values[0])
