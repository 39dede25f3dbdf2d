"""What a network that knows no places reads: all its inputs, flat, one beside the other."""

# B batch, F features

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SMALL = (torch.bfloat16, torch.float16)


def side_by_side(read: Sequence[Tensor]) -> Tensor:
    """(B, ...) tensors to (B, F), float32 or what is smaller already."""
    return torch.cat([(one if one.dtype in _SMALL else one.float()).flatten(1) for one in read], dim=1)
