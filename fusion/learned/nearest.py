"""The rows nearest to others: what dynamic selection looks up."""

# B batch, N rows, D numbers a row

from __future__ import annotations

import torch
from torch import Tensor


def distances(first: Tensor, second: Tensor) -> Tensor:
    """(B, N) Euclidean, of (B, D) and (N, D), each by itself: a matrix product rounds by how many rows there are."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(apart: Tensor, count: int) -> Tensor:
    """(B, count) numbers of the rows of which distances (B, N) are least, the nearest first, the first of equals."""
    return apart.sort(dim=1, stable=True).indices[:, :count]
