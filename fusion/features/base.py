"""The contract that every feature rule obeys: members' feature vectors, each of its own width, fused into one vector.

A feature rule is an ``nn.Module``: it is trained together with the head that reads it, with members left out of some
rows (``drop_members``), so that an absent member or modality is something both have seen.
"""

# M members, B batch, F_m features of member m, F features of the answer

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused, check_mask, check_options, weights_in_order
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError

_Part = TypeVar("_Part", bound=nn.Module)


class FeatureRule(nn.Module, ABC):
    """A fusion rule over the features of named members.

    A row that holds NaN or infinity counts as absent. Inside, members go by name: their order in the spec or in a call
    changes no bit.

    Attributes:
        name: the rule's name in a spec, its key in ``RULES``.
        members: names, in the order of the rows of ``present`` and of the contributions.
        widths: F_m by member.
        width: F.
    """

    name: ClassVar[str]
    required: ClassVar[tuple[str, ...]] = ()
    """Options without a default, ``widths`` excepted."""
    of_spec: ClassVar[tuple[str, ...]] = ()
    """Parameters that stand in fields of the spec, and not in the file of the state."""
    width: int
    _order: Tensor
    _back: Tensor

    @property
    def spec_weights(self) -> dict[str, float] | None:
        """As a spec holds them; None where it has none."""
        return None

    def __init__(self, widths: Mapping[str, int]):
        super().__init__()
        if not widths or any(type(width) is not int or width < 1 for width in widths.values()):
            raise RuleOptionError(self.name, "widths", dict(widths), "give each member its number of features")
        self.members, self.widths = tuple(widths), dict(widths)
        self._canonical = sorted(self.members)
        order = [self.members.index(name) for name in self._canonical]
        self.register_buffer("_order", torch.tensor(order), persistent=False)
        self.register_buffer("_back", torch.tensor(order).argsort(), persistent=False)

    @classmethod
    def from_spec(
        cls,
        members: Sequence[str],
        weights: Mapping[str, float] | None,
        options: Mapping[str, Any],
        state: Mapping[str, Tensor] | None = None,
    ) -> FeatureRule:
        """Build the rule from the fields of a spec, frozen, to answer with.

        Args:
            members: names, in the order of the rows that will be fused.
            weights: by member, for a rule that has them.
            options: by name; ``widths`` gives each member's number of features.
            state: the tensors that ``state`` gave.

        Raises:
            RuleOptionError: a field that the rule does not read, a value it cannot use, or a state of another rule.
        """
        rule = cls.untrained(members, weights, options)
        rule._load(state or {})
        return rule.requires_grad_(False).eval()

    @classmethod
    def untrained(
        cls, members: Sequence[str], weights: Mapping[str, float] | None, options: Mapping[str, Any]
    ) -> FeatureRule:
        """The rule that a spec names, to be trained; first parameters come from PyTorch's random state.

        Args and errors as of ``from_spec``.
        """
        check_options(cls.name, members, weights, options)
        for option in cls.required:
            if option not in options:
                raise RuleOptionError(cls.name, option, None, "give it: there is no default")
        arguments = dict(options)
        widths = arguments.pop("widths", None)
        if not isinstance(widths, Mapping) or set(widths) != set(members):
            raise RuleOptionError(cls.name, "widths", widths, f"give the number of features of {', '.join(members)}")
        ordered = weights_in_order(members, weights)
        if ordered is not None:
            arguments["weights"] = dict(zip(members, ordered, strict=True))
        return cls({name: widths[name] for name in members}, **arguments)

    def _load(self, state: Mapping[str, Tensor]) -> None:
        wanted = {key: tensor.shape for key, tensor in self.state().items()}
        if not state and not self._must_learn():
            return
        found = {key: tensor.shape for key, tensor in state.items()}
        if found != wanted:
            wrong = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
            raise RuleOptionError(self.name, "state", wrong, "give the state of this rule, trained for these members")
        self.load_state_dict({**self.state_dict(), **state})

    def _must_learn(self) -> bool:
        """Whether the rule means nothing before it is trained."""
        return bool(self.state())

    def state(self) -> dict[str, Tensor]:
        """What the rule has learned, by name, for safetensors."""
        found = self.state_dict()
        return {key: tensor.detach().clone() for key, tensor in found.items() if key not in self.of_spec}

    def options(self) -> dict[str, Any]:
        """The options it was made with, as a spec holds them, ``widths`` excepted."""
        return {}

    def to_spec(self, members: Sequence[str]) -> dict[str, Any]:
        """The fields that ``from_spec`` builds this rule from again, together with ``state``."""
        if sorted(members) != self._canonical:
            raise RuleOptionError(self.name, "members", list(members), f"give {', '.join(self.members)}, in any order")
        widths = {name: self.widths[name] for name in members}
        spec: dict[str, Any] = {"rule": self.name, "members": list(members)}
        weights = self.spec_weights
        if weights is not None:
            spec["weights"] = {name: weights[name] for name in members}
        return {**spec, "options": {"widths": widths, **self.options()}}

    def fuse(self, features: Mapping[str, Tensor], present: Tensor | None = None) -> Fused:
        """Fuse the members that answered.

        Args:
            features: (B, F_m) by member; a member without a key is absent in every row.
            present: (M, B) bool, in the order of ``members``; None when every member with a key answered.

        Returns:
            values (B, F), contributions (M, B), coverage (B,).

        Raises:
            RuleOptionError: features of no member.
            MemberCountError: present has another M.
            ShapeError: an argument has another shape.
            QuorumError: a row has no member.
        """
        batch = self._batch_size(features)
        if present is None:
            some = next(iter(features.values()))
            present = torch.ones(len(self.members), batch, dtype=torch.bool, device=some.device)
        elif present.dim() == 2 and present.shape[0] != len(self.members):
            raise MemberCountError(len(self.members), present.shape[0])
        else:
            check_mask(present, (len(self.members), batch))
        rows, masks = self._rows(features, present[self._order])
        if not bool(masks.any(dim=0).all()):
            raise QuorumError("one member in every row", "a row without any")
        fused = self._fuse(rows, masks)
        return Fused(fused.values, fused.contributions[self._back], fused.coverage)

    def _batch_size(self, features: Mapping[str, Tensor]) -> int:
        unknown = sorted(set(features) - set(self.members))
        if unknown:
            raise RuleOptionError(self.name, "features", unknown, f"give features of {', '.join(self.members)} only")
        if not features:
            raise QuorumError("one member in every row", "no features at all")
        batch = next(iter(features.values())).shape[0]
        for name, tensor in features.items():
            if tensor.shape != (batch, self.widths[name]):
                raise ShapeError(f"features of {name}", f"({batch}, {self.widths[name]})", str(tuple(tensor.shape)))
        return batch

    def _rows(self, features: Mapping[str, Tensor], present: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each member's rows in the order of names, zero where absent, and who is there."""
        rows, masks = [], []
        for name, answered in zip(self._canonical, present, strict=True):
            if name not in features:
                rows.append(torch.zeros(present.shape[1], self.widths[name], device=present.device))
                masks.append(torch.zeros_like(answered))
                continue
            given = features[name].float()  # what float32 cannot hold is infinite
            mask = answered & torch.isfinite(given).all(dim=-1)
            rows.append(torch.where(mask.unsqueeze(-1), given, 0.0))
            masks.append(mask)
        return rows, torch.stack(masks)

    @abstractmethod
    def _fuse(self, rows: list[Tensor], present: Tensor) -> Fused:
        """Fuse checked input, members in the order of names: rows (B, F_m) zeroed where absent, present (M, B)."""

    def forward(self, features: Mapping[str, Tensor], present: Tensor | None = None) -> Tensor:
        """The values of ``fuse``, (B, F)."""
        return self.fuse(features, present).values


def by_member(parts: Mapping[str, _Part]) -> nn.ModuleDict:
    """A module for each member; the prefix keeps names such as ``type`` or ``train`` apart from PyTorch's own."""
    return nn.ModuleDict({f"member_{name}": parts[name] for name in sorted(parts)})


class StandIn(nn.Module):
    """What takes an absent member's place: a vector learned from the rows it was missing from, at first zeros."""

    def __init__(self, width: int):
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, rows: Tensor, present: Tensor) -> Tensor:
        """Rows (B, F_m) where present (B,), the stand-in elsewhere."""
        return torch.where(present.unsqueeze(-1), rows, self.vector)
