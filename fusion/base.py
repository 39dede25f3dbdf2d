"""The contract that every output rule obeys: M members' outputs under a mask of who answered, fused into one."""

# M members, B batch, C classes

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.errors import MemberCountError, RuleOptionError, ShapeError
from quorate.fusion.numerics.scratch import scratch
from quorate.fusion.numerics.tracing import for_numpy, tracing
from quorate.fusion.registry import RULES


@dataclass(frozen=True)
class Fused:
    """One answer per row.

    Attributes:
        values: (B, C) float32; all zeros in a row that the rule abstained from.
        contributions: (M, B) float32, each member's share in the row; sums to one over M.
        coverage: (B,) float32, the share of the ensemble's weight that answered.
        abstained: (B,) bool, rows that the rule declined to decide; None for a rule that never abstains.
    """

    values: Tensor
    contributions: Tensor
    coverage: Tensor
    abstained: Tensor | None = None


@dataclass(slots=True)
class FusedArrays:
    """``Fused`` in NumPy's arrays, for serving, which needs no gradient."""

    values: NDArray[np.float32]
    contributions: NDArray[np.float32]
    coverage: NDArray[np.float32]
    abstained: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, fused: Fused) -> FusedArrays:
        abstained = None if fused.abstained is None else fused.abstained.numpy()
        values, contributions = fused.values.detach().numpy(), fused.contributions.detach().numpy()
        return cls(values, contributions, fused.coverage.numpy(), abstained)


class Rule(ABC):
    """A fusion rule for ``num_members`` members.

    A row that holds NaN or infinity counts as absent, whatever ``present`` says.

    Attributes:
        name: the rule's name in a spec, its key in ``RULES``.
        num_members: M.
        spec_weights: the weights it was made with, None when it has none.
        options: the options it was made with, as a spec holds them: JSON values only.
    """

    name: ClassVar[str]
    num_members: int
    spec_weights: list[float] | None = None
    options: Mapping[str, Any] = {}

    @classmethod
    def from_spec(
        cls,
        members: Sequence[str],
        weights: Mapping[str, float] | None,
        options: Mapping[str, Any],
        state: Mapping[str, Tensor] | None = None,
    ) -> Rule:
        """Build the rule from the fields of a spec.

        Args:
            members: names, in the order of the rows that will be fused.
            weights: by member; a member that is not named weighs 0. None for the rule's default.
            options: by name.
            state: the tensors that ``state`` gave, for a learned rule.

        Raises:
            RuleOptionError: a field that the rule does not read, or a value it cannot use.
        """
        check_options(cls.name, members, weights, options)
        if state:
            raise RuleOptionError(cls.name, "state", sorted(state), "leave it out: this rule learns nothing")
        return cls._build(members, weights_in_order(members, weights), options)

    @classmethod
    def _build(cls, members: Sequence[str], weights: list[float] | None, options: Mapping[str, Any]) -> Rule:
        """Call the constructor: ``cls(M, weights=..., **options)``, weights only where they are given."""
        arguments = dict(options) if weights is None else {"weights": weights, **options}
        return cls(len(members), **arguments)  # type: ignore[call-arg]  # each rule's constructor is its own

    def to_spec(self, members: Sequence[str]) -> dict[str, Any]:
        """The fields that ``from_spec`` builds this rule from again (with ``state``, for a learned rule).

        Returns:
            ``rule``, ``members`` and, where there are any, ``weights`` and ``options``; JSON values only.
        """
        if len(members) != self.num_members:
            raise MemberCountError(self.num_members, len(members))
        spec: dict[str, Any] = {"rule": self.name, "members": list(members)}
        if self.spec_weights is not None:
            spec["weights"] = dict(zip(members, self.spec_weights, strict=True))
        if self.options:
            spec["options"] = dict(self.options)
        return spec

    def state(self) -> dict[str, Tensor]:
        """What the rule has learned, by name, for safetensors; empty for a rule that learns nothing."""
        return {}

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
        self._check_shapes(outputs, present)
        outputs = outputs.float()
        if not outputs.shape[1]:
            return Fused(outputs.sum(dim=0), outputs.sum(dim=2), outputs.sum(dim=(0, 2)))
        return self._fuse_checked(outputs, present)

    def fuse_arrays(self, outputs: NDArray[np.float32], present: NDArray[np.bool_] | None = None) -> FusedArrays:
        """``fuse`` of NumPy's arrays, without a gradient; the same to the bit."""
        mask = None if present is None else torch.from_numpy(present)
        return FusedArrays.of(self.fuse(torch.from_numpy(outputs), mask))

    def _check_shapes(self, outputs: Tensor, present: Tensor | None) -> None:
        if outputs.dim() != 3 or not outputs.shape[2] or outputs.is_complex():
            wanted = "(members, batch, classes) real numbers, at least one class"
            raise ShapeError("outputs", wanted, f"{tuple(outputs.shape)} {outputs.dtype}")
        if outputs.shape[0] != self.num_members:
            raise MemberCountError(self.num_members, outputs.shape[0])
        if present is not None:
            check_mask(present, tuple(outputs.shape[:2]))

    def _fuse_checked(self, outputs: Tensor, present: Tensor | None) -> Fused:
        """Fuse input of the right shapes; a row that is not finite becomes an absent one."""
        # One NaN or infinity makes a sum one: a finite sum clears all rows in a fortieth of the time of isfinite.
        if not tracing() and math.isfinite(outputs.sum().item()):
            if present is None or bool(present.all()):
                return self._fuse_complete(outputs)
            return self._fuse(_zeroed(outputs, present), present)
        finite = _finite_rows(outputs)
        present = finite if present is None else finite & present
        return self._fuse(torch.where(present.unsqueeze(-1), outputs, 0.0), present)

    @abstractmethod
    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        """Fuse checked input; raise ``QuorumError`` for a row that too few answered.

        Args:
            outputs: (M, B, C) float32, finite, absent rows zeroed.
            present: (M, B) bool.
        """

    def _fuse_complete(self, outputs: Tensor) -> Fused:
        """Fuse input that every member answered; a rule that can do this faster says how."""
        return self._fuse(outputs, torch.ones(outputs.shape[:2], dtype=torch.bool, device=outputs.device))


def check_mask(present: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse what says nothing clear about who answered: 2 & True is 0.

    Raises:
        ShapeError: present has another shape, or holds anything but bool.
    """
    if present.shape != shape or present.dtype != torch.bool:
        raise ShapeError("present", f"{shape} torch.bool", f"{tuple(present.shape)} {present.dtype}")


def _zeroed(outputs: Tensor, present: Tensor) -> Tensor:
    """Finite outputs with zeros in the rows that are absent."""
    there = present.unsqueeze(-1)
    if not for_numpy(outputs):
        return outputs * there
    return torch.mul(outputs, there, out=torch.from_numpy(scratch(tuple(outputs.shape), np.float32, "members")))


def _finite_rows(outputs: Tensor) -> Tensor:
    """(M, B) bool. Only rows with a sum that is not finite are looked at number by number."""
    if tracing():
        return torch.isfinite(outputs).all(dim=-1)
    finite = torch.isfinite(outputs.detach().sum(dim=-1))
    if not bool(finite.all()):
        finite[~finite] = torch.isfinite(outputs[~finite]).all(dim=-1)
    return finite


def equal_shares(present: Tensor) -> Tensor:
    """(M, B) float32, one share for each present member of a row."""
    counts = present.float()
    return counts / counts.sum(dim=0)


def count_coverage(present: Tensor) -> Tensor:
    """(B,) float32, the share of members that answered."""
    return present.float().mean(dim=0)


def check_options(
    rule: str, members: Sequence[str], weights: Mapping[str, float] | None, options: Mapping[str, Any]
) -> None:
    """Refuse what the rule would not read.

    Raises:
        RuleOptionError: weights for a rule without them or for no member, or an option that is not in the registry.
    """
    entry = RULES[rule]
    if weights is not None and not entry.weighted:
        raise RuleOptionError(rule, "weights", dict(weights), "leave them out: this rule has no weights")
    unknown_members = sorted(set(weights or ()) - set(members))
    if unknown_members:
        raise RuleOptionError(
            rule, "weights", unknown_members, f"name only members of the fusion: {', '.join(members)}"
        )
    unknown = sorted(set(options) - set(entry.own_options))
    if unknown:
        known = f"use {', '.join(entry.own_options)}" if entry.own_options else "leave it out: this rule has no options"
        raise RuleOptionError(rule, "options", unknown, known)


def weights_in_order(members: Sequence[str], weights: Mapping[str, float] | None) -> list[float] | None:
    return None if weights is None else [float(weights.get(member, 0.0)) for member in members]
