"""Which way a rule computes: with numpy, with torch for a gradient, or inside ``torch.compile``.

A compiled graph has no branches on values, so it takes no shortcuts. numpy takes a third of torch's time for sums over
members on a CPU, and a tenth for small ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quorate.fusion.errors import QuorumError

tracing = torch.compiler.is_compiling


def for_numpy(outputs: Tensor) -> bool:
    """Whether numpy may compute from this: it is in the CPU's memory, and nobody wants a gradient or a graph."""
    recording = outputs.requires_grad and torch.is_grad_enabled()
    return not recording and not tracing() and outputs.device.type == "cpu"


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
