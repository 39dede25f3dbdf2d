"""The contract that every output rule obeys: M members' outputs under a mask of who answered, fused into one."""

# M members, B batch, C classes

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from quorate.fusion.errors import MemberCountError, ShapeError


@dataclass(frozen=True)
class Fused:
    """One answer per row.

    Attributes:
        values: (B, C) float32.
        contributions: (M, B) float32, each member's share in the row; sums to one over M.
        coverage: (B,) float32, the share of the ensemble's weight that answered.
    """

    values: Tensor
    contributions: Tensor
    coverage: Tensor


class Rule(ABC):
    """A fusion rule for ``num_members`` members.

    A row that holds NaN or infinity counts as absent, whatever ``present`` says.
    """

    name: ClassVar[str]
    num_members: int

    @classmethod
    @abstractmethod
    def from_spec(
        cls, members: Sequence[str], weights: Mapping[str, float] | None, options: Mapping[str, Any]
    ) -> Rule:
        """Build the rule from the words of a spec; members are in the order of the rows that will be fused."""

    @abstractmethod
    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        """Fuse checked input: outputs (M, B, C) float32 with absent rows zeroed, present (M, B) bool."""

    def fuse(self, outputs: Tensor, present: Tensor | None = None) -> Fused:
        """Fuse the members that answered.

        Args:
            outputs: (M, B, C) one output per member, row and class.
            present: (M, B) bool, False where a member gave no row; None when all did.

        Returns:
            The fused rows.

        Raises:
            MemberCountError: M is not what the rule was made for.
            ShapeError: an argument has another shape.
            QuorumError: a row has no member with weight.
        """
        if outputs.dim() != 3:
            raise ShapeError("outputs", "(members, batch, classes)", str(tuple(outputs.shape)))
        if outputs.shape[0] != self.num_members:
            raise MemberCountError(self.num_members, outputs.shape[0])
        if present is None:
            present = torch.ones(outputs.shape[:2], dtype=torch.bool)
        elif present.shape != outputs.shape[:2]:
            raise ShapeError("present", str(tuple(outputs.shape[:2])), str(tuple(present.shape)))
        present = present & torch.isfinite(outputs).all(dim=-1)
        return self._fuse(torch.where(present.unsqueeze(-1), outputs.float(), 0.0), present)
