"""One process's share of a training that several run together, each with the same network and other rows."""

# B batch

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Share:
    """Between processes that torch.distributed has joined.

    Attributes:
        rank: of this one, from 0.
        size: how many there are.
    """

    rank: int
    size: int

    def of(self, index: Tensor) -> Tensor:
        """This process's rows of a batch (B,); all of them where there are not two for everybody."""
        return index if len(index) < 2 * self.size else index[self.rank :: self.size]

    def average(self, model: nn.Module) -> None:
        """Gradients of all processes, averaged in place; one buffer, since a message costs more than its numbers."""
        trained = [one for one in model.parameters() if one.requires_grad]
        grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in trained]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [grad.numel() for grad in grads])
        for one, part in zip(trained, parts, strict=True):
            one.grad = part.view_as(one)

    def same_buffers(self, model: nn.Module) -> None:
        """Running means and the like as the first process has them."""
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)

    def as_the_first(self, numbers: tuple[float, float]) -> tuple[float, float]:
        """What the first process found: all stop after the same epoch."""
        found = torch.tensor(numbers, dtype=torch.float64)
        distributed.broadcast(found, 0)
        loss, accuracy = found.tolist()
        return loss, accuracy
