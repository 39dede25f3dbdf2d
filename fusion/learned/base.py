"""What the learned output rules share: parameters that go by member name, and a spec that names a trained state."""

# M members, B batch, C classes

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused, Rule, check_options
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.numerics.tracing import require

_Learned = TypeVar("_Learned", bound="LearnedRule")

# A class that a member does not know has probability 0, whose logit would be infinite.
_FLOOR = 1e-6


class LearnedRule(Rule):
    """A rule whose numbers were trained.

    Inside, members stand in the order of their names, and so do the first dimensions of their parameters: the order of
    members in a spec changes no bit. In ``state`` a member's parameters carry its name, so that they find it again.

    Attributes:
        members: names, in the order of the rows that are fused.
        network: its parameters are frozen; ``fit_...`` functions train it.
    """

    per_member: ClassVar[tuple[str, ...]]
    """Parameters of the network whose first dimension is members."""
    every_member: ClassVar[bool] = False
    """Whether a state is good only for exactly the members it was trained for; otherwise some may be left out."""

    def __init__(self, members: Sequence[str], network: nn.Module):
        if not members or len(set(members)) < len(members):
            raise RuleOptionError(self.name, "members", list(members), "name each member once, at least one")
        self.members, self.num_members = tuple(members), len(members)
        self.network = network.requires_grad_(False).eval()
        self._order = torch.tensor([self.members.index(name) for name in sorted(self.members)])
        self._back = self._order.argsort()

    @classmethod
    def from_spec(
        cls: type[_Learned],
        members: Sequence[str],
        weights: Mapping[str, float] | None,
        options: Mapping[str, Any],
        state: Mapping[str, Tensor] | None = None,
    ) -> _Learned:
        check_options(cls.name, members, weights, options)
        if not state:
            raise RuleOptionError(cls.name, "state", state, "train the rule and give the file of its state")
        try:
            tensors = cls._stack(members, state)
            network = cls._network(tensors, options)
            network.load_state_dict(tensors)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            found = {key: list(tensor.shape) for key, tensor in state.items()}
            raise RuleOptionError(cls.name, "state", found, "give a state of this rule with these options") from error
        return cls(members, network, **cls._read_options(options))

    @classmethod
    def _stack(cls, members: Sequence[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's tensors, members' ones stacked in the order of names."""
        shared = {key: tensor for key, tensor in state.items() if key.partition("/")[0] not in cls.per_member}
        known = sorted({key.partition("/")[2] for key in state if key not in shared})
        wrong = set(members) ^ set(known) if cls.every_member else set(members) - set(known)
        if wrong:
            fix = f"it was trained for {', '.join(known) or 'nobody'}: fuse those, or train again"
            raise RuleOptionError(cls.name, "state", sorted(wrong), fix)
        names = sorted(members)
        return shared | {key: torch.stack([state[f"{key}/{name}"] for name in names]) for key in cls.per_member}

    @classmethod
    @abstractmethod
    def _network(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
        """A network with the shapes of these tensors."""

    @classmethod
    def _read_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """What the constructor takes beside members and network."""
        return dict(options)

    def state(self) -> dict[str, Tensor]:
        state = {}
        for key, tensor in self.network.state_dict().items():
            if key in self.per_member:
                rows = zip(sorted(self.members), tensor, strict=True)
                state.update({f"{key}/{name}": row.detach().clone() for name, row in rows})
            else:
                state[key] = tensor.detach().clone()
        return state

    def to_spec(self, members: Sequence[str]) -> dict[str, Any]:
        if sorted(members) != sorted(self.members):
            raise RuleOptionError(self.name, "members", list(members), f"give {', '.join(self.members)}, in any order")
        return super().to_spec(members)

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        require(present.any(dim=0), "one member in every row", "a row without any")
        # Indexing keeps strides, and a matrix product adds in the order that they suggest.
        fused = self._fuse_by_name(outputs[self._order].contiguous(), present[self._order].contiguous())
        return Fused(fused.values, fused.contributions[self._back], fused.coverage)

    @abstractmethod
    def _fuse_by_name(self, outputs: Tensor, present: Tensor) -> Fused:
        """Fuse checked input with members in the order of their names."""


def check_over(rule: str, over: str) -> None:
    if over not in ("probabilities", "logits"):
        raise RuleOptionError(rule, "over", over, "use probabilities or logits")


def read(outputs: Tensor, over: str) -> Tensor:
    """What a network reads of members' probabilities: themselves, or logits, their logarithms floored at 1e-6."""
    return outputs.clamp(min=_FLOOR).log() if over == "logits" else outputs
