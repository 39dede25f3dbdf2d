"""Decision trees as a network: a member in safetensors that answers what scikit-learn's boosting or forest would.

In a spec ``model: quorate.tuning.architectures:trees``; ``quorate.tuning.training.tree_run`` makes its weights.
"""

# B batch, F features, T trees, N nodes of the largest tree, C classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quorate.tuning.architectures.flat_rows import side_by_side

# A forest's leaf says 0 of a class it has not seen, which no row should cost an infinite log-loss for.
_FLOOR = 1e-3


class Trees(nn.Module):
    """Walks all trees at once, a level a step; numbers that are missing go where they went in training."""

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor
    value: Tensor
    base: Tensor
    first: Tensor

    def __init__(self, classes: int, trees: int, nodes: int, depth: int, average: bool):
        super().__init__()
        self.depth, self.average = depth, average
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(trees, nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(trees, nodes))
        self.register_buffer("missing_left", torch.zeros(trees, nodes, dtype=torch.bool))
        self.register_buffer("value", torch.zeros(trees, nodes, classes))
        self.register_buffer("base", torch.zeros(classes))
        self.register_buffer("first", torch.arange(trees) * nodes, persistent=False)

    def forward(self, *read: Tensor) -> Tensor:
        """(B, ...) tensors, F numbers a row in all, to logits (B, C)."""
        flat = side_by_side(read)
        at = torch.zeros(len(flat), len(self.feature), dtype=torch.int64, device=flat.device)  # (B, T)
        for _ in range(self.depth):
            node = at + self.first
            asked = flat.gather(1, self.feature.flatten()[node].long())
            missing = asked.isnan() & self.missing_left.flatten()[node]
            goes_left = missing | (asked <= self.threshold.flatten()[node])
            at = torch.where(goes_left, self.left.flatten()[node], self.right.flatten()[node]).long()
        said = self.value.flatten(0, 1)[at + self.first].sum(dim=1)  # (B, C)
        if not self.average:
            return said + self.base
        return (said / len(self.feature) + _FLOOR).log()


def trees(classes: int, trees: int, nodes: int, depth: int, average: bool = False) -> nn.Module:
    """Build trees without numbers; a checkpoint has those.

    Args:
        classes: number of logits.
        trees, nodes: of the largest tree.
        depth: steps from a root to the farthest leaf.
        average: leaves hold probabilities, of which the mean is taken; else logits, which are added up.
    """
    return Trees(classes, trees, nodes, depth, average)


@dataclass(frozen=True)
class Tree:
    """One tree; each array has a number for each node, the root's first.

    Attributes:
        feature: that a node asks for.
        threshold: up to which a row goes left.
        left, right: nodes that follow; a leaf's own number.
        missing_left: where NaN goes.
        value: (nodes, C).
    """

    feature: NDArray[np.integer]
    threshold: NDArray[np.float64]
    left: NDArray[np.integer]
    right: NDArray[np.integer]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.floating]

    def depth(self) -> int:
        depth, at = 0, np.array([0])
        while len(at := np.concatenate([side[at][side[at] != at] for side in (self.left, self.right)])):
            depth += 1
        return depth


def join_trees(grown: Sequence[Tree], base: NDArray[np.floating], average: bool) -> tuple[Trees, dict[str, int | bool]]:
    """The network that answers what the trees do, and the config of ``trees`` that it is built from."""
    nodes = max(len(tree.feature) for tree in grown)
    depth = max(tree.depth() for tree in grown)
    config = {"classes": len(base), "trees": len(grown), "nodes": nodes, "depth": depth, "average": average}
    network = Trees(len(base), len(grown), nodes, depth, average)
    for place, tree in enumerate(grown):
        count = len(tree.feature)
        for name in ("feature", "left", "right", "missing_left", "value"):
            getattr(network, name)[place, :count] = torch.from_numpy(np.ascontiguousarray(getattr(tree, name)))
        network.threshold[place, :count] = torch.from_numpy(_float32_below(tree.threshold))
    network.base.copy_(torch.from_numpy(np.asarray(base)))
    return network.eval(), config


def _float32_below(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above: a float32 row passes it if and only if it passes the threshold."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32("-inf")), near)
