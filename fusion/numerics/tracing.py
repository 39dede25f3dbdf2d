"""What differs while ``torch.compile`` traces a rule: a graph has no branches on values, so it takes no shortcuts."""

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.errors import QuorumError

tracing = torch.compiler.is_compiling


def surely(holds: Tensor) -> bool:
    """Whether a condition that allows a shortcut holds throughout; never while tracing."""
    return not tracing() and bool(holds.all())


def require(holds: Tensor, needed: str, got: str) -> None:
    """Refuse rows that cannot be fused.

    Raises:
        QuorumError: ``holds`` is not true throughout; a RuntimeError with its text from a compiled graph.
    """
    if not tracing():
        if not bool(holds.all()):
            raise QuorumError(needed, got)
    else:
        torch._assert_async(holds.all(), f"fusion needs {needed} but got {got}")
