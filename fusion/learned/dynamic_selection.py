"""Dynamic selection: whom to ask is who was right on rows like this one (Ko, Sabourin and Britto 2008, "From dynamic
classifier selection to dynamic ensemble selection").

A gate that is not trained but looks up: it keeps rows and who was right on them. Everything else is the gate's.
"""

# M members, B batch, N rows, C classes, D input features, K neighbours

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.learned.gate import Gate, Standardised, check_inputs
from quorate.fusion.learned.nearest import distances, nearest
from quorate.fusion.training import examples

# What a member counts that is right on no neighbour: it is fused where nobody else is there.
_LEAST = 1e-6


class _Neighbours(Standardised):
    """Logarithms of how many of the nearest rows each member is right on, or of who is right on all of them."""

    rows: Tensor
    right: Tensor

    def __init__(self, num_members: int, rows: Sequence[int], neighbours: int, eliminate: bool):
        num_rows, num_inputs = rows
        super().__init__(num_inputs)
        self.neighbours, self.eliminate = min(neighbours, num_rows), eliminate
        self.register_buffer("rows", torch.zeros(num_rows, num_inputs))
        self.register_buffer("right", torch.zeros(num_members, num_rows, dtype=torch.bool))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, D) to (M, B)."""
        right = self.right[:, nearest(distances(self.standard(inputs), self.rows), self.neighbours)]  # (M, B, K)
        if not self.eliminate:
            return right.sum(dim=2).clamp(min=_LEAST).log()
        # The largest neighbourhood on all of which somebody is right is as far as the longest run from the nearest on.
        runs = right.int().cumprod(dim=2).sum(dim=2)
        return (runs == runs.amax(dim=0)).float().clamp(min=_LEAST).log()


class DynamicSelection(Gate):
    """The weighted mean of members by how many of the nearest rows they are right on (KNORA-U), or the mean of those
    that are right on as many of the nearest as anybody is (KNORA-E). Make one with ``fit_dynamic_selection``.

    Attributes:
        top_k: at most so many are asked, the most competent.
    """

    name = "dynamic_selection"
    per_member = ("right",)

    def __init__(
        self,
        members: Sequence[str],
        network: nn.Module,
        top_k: int,
        input_name: str,
        neighbours: int = 7,
        select: str = "union",
    ):
        super().__init__(members, network, top_k, input_name)
        self.options = {"top_k": top_k, "input_name": input_name, "neighbours": neighbours, "select": select}

    @classmethod
    def _network(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
        neighbours, select = options.get("neighbours", 7), options.get("select", "union")
        check_neighbours(neighbours, select)
        return _Neighbours(len(tensors["right"]), tensors["rows"].shape, neighbours, select == "eliminate")


def check_neighbours(neighbours: Any, select: Any) -> None:
    if type(neighbours) is not int or neighbours < 1:
        raise RuleOptionError(DynamicSelection.name, "neighbours", neighbours, "give a whole number of 1 or more")
    if select not in ("union", "eliminate"):
        raise RuleOptionError(DynamicSelection.name, "select", select, "use union or eliminate")


def fit_dynamic_selection(
    members: Sequence[str],
    inputs: Tensor,
    outputs: Tensor,
    labels: Tensor,
    present: Tensor | None = None,
    *,
    input_name: str,
    neighbours: int = 7,
    select: str = "union",
    top_k: int | None = None,
) -> DynamicSelection:
    """Keep who is right on which row, of rows that the members were not trained on.

    Args:
        members: names, in the order of the outputs.
        inputs: (N, D), standardised inside by their mean and deviation; distances are Euclidean.
        outputs: (M, N, C) probabilities.
        labels: (N,) integers in [0, C).
        present: (M, N) bool; None when every member answered. Who gave no row is not right on it.
        input_name: the request input that the rows are.
        neighbours: K.
        select: ``union`` (KNORA-U) or ``eliminate`` (KNORA-E).
        top_k: members asked for a row; all when None.

    Raises:
        FusionError: arguments do not fit together.
        QuorumError: no row has a member.
    """
    check_neighbours(neighbours, select)
    check_inputs(inputs, labels)
    data = examples(members, outputs, labels, present)
    kept = inputs[data.kept].float()
    network = _Neighbours(len(members), kept.shape, neighbours, select == "eliminate")
    network.fit(kept)
    network.rows.copy_(network.standard(kept))
    network.right.copy_((data.outputs.argmax(dim=2) == data.labels) & data.present)
    return DynamicSelection(members, network, top_k or len(members), input_name, neighbours, select)
