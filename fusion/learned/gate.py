"""Gate: the request chooses its members (Jacobs et al. 1991, "Adaptive mixtures of local experts").

Only the k best members of a row need be asked (Shazeer et al. 2017, "Outrageously large neural networks", section 2.1):

    route = gate.route(inputs)                # a rule for exactly these rows
    asked = route.select(available)           # (M, B) bool: call these members, no others
    fused = route.fuse(outputs, present)
"""

# M members, B batch, N rows, C classes, D input features, H hidden units

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused, Rule
from quorate.fusion.errors import QuorumError, RuleOptionError, ShapeError
from quorate.fusion.learned.base import LearnedRule
from quorate.fusion.numerics.tracing import require
from quorate.fusion.training import Training, examples, label_column, mixture_loss, seeded, train


class Standardised(nn.Module):
    """Reads inputs (B, D) by their mean and deviation over the rows it was fitted on."""

    center: Tensor
    scale: Tensor

    def __init__(self, num_inputs: int):
        super().__init__()
        self.register_buffer("center", torch.zeros(num_inputs))
        self.register_buffer("scale", torch.ones(num_inputs))

    def fit(self, inputs: Tensor) -> None:
        """Take mean and deviation from (N, D); a feature that never changes keeps its unit."""
        self.center.copy_(inputs.mean(dim=0))
        deviation = inputs.std(dim=0, correction=0)
        self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))

    def standard(self, inputs: Tensor) -> Tensor:
        """(B, D) standardised; an input that is not finite counts as the mean."""
        found = (inputs.float() - self.center) / self.scale
        return torch.where(torch.isfinite(found), found, 0.0)


class _Network(Standardised):
    """Scores of members from standardised inputs: linear (H = 0), or one hidden layer of ReLUs."""

    def __init__(self, num_members: int, num_inputs: int, hidden: int):
        super().__init__(num_inputs)
        self.body = nn.Sequential(nn.Linear(num_inputs, hidden), nn.ReLU()) if hidden else nn.Identity()
        bound = (hidden or num_inputs) ** -0.5
        self.weight = nn.Parameter(torch.empty(num_members, hidden or num_inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(num_members))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, D) to (M, B)."""
        hidden = self.body(self.standard(inputs))
        scores: Tensor = self.weight @ hidden.T + self.bias.unsqueeze(1)
        return scores


class Gate(LearnedRule):
    """Sum of g_m p_m, g the softmax of the k best scores that the request gives to members. Make one with ``fit_gate``.

    When fewer than k of the best answered, the next best that did take their place. A member's contribution is its
    gate; coverage is the gate mass of the members fused as a share of the k best's.

    Attributes:
        top_k: k.
        input_name: the request input it reads, one row flattened to D numbers.
    """

    name = "gate"
    per_member: ClassVar[tuple[str, ...]] = ("weight", "bias")
    network: Standardised

    def __init__(self, members: Sequence[str], network: nn.Module, top_k: int, input_name: str, hidden: int = 0):
        if type(top_k) is not int or top_k < 1:
            raise RuleOptionError(self.name, "top_k", top_k, "give a whole number of 1 or more")
        if not isinstance(input_name, str) or not input_name:
            raise RuleOptionError(
                self.name, "input_name", input_name, "name the request input that the gate was trained on"
            )
        super().__init__(members, network)
        self.top_k, self.input_name = top_k, input_name
        self.options = {"top_k": top_k, "input_name": input_name, "hidden": hidden}

    @property
    def num_inputs(self) -> int:
        """D."""
        return len(self.network.center)

    @classmethod
    def _network(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
        return _Network(len(tensors["weight"]), len(tensors["center"]), options.get("hidden", 0))

    @classmethod
    def _read_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        for option in ("top_k", "input_name"):
            if option not in options:
                raise RuleOptionError(cls.name, option, None, "give it: a gate has no default")
        return dict(options)

    def route(self, inputs: Tensor) -> Route:
        """The gate at these rows.

        Args:
            inputs: (B, D).

        Raises:
            ShapeError: inputs have another shape.
        """
        self.check_width(inputs)
        return Route(self.network(inputs)[self._back], self.members, self.top_k)

    def check_width(self, inputs: Tensor) -> None:
        """Raise ShapeError unless inputs are (B, D)."""
        if inputs.dim() != 2 or inputs.shape[1] != self.num_inputs:
            raise ShapeError("inputs", f"(rows, {self.num_inputs})", str(tuple(inputs.shape)))

    def select(self, inputs: Tensor, available: Tensor | None = None) -> Tensor:
        """Whom to ask: (M, B) bool, see ``Route.select``."""
        return self.route(inputs).select(available)

    def fuse(self, outputs: Tensor, present: Tensor | None = None, inputs: Tensor | None = None) -> Fused:
        """Fuse the k best members that answered.

        Args:
            outputs: (M, B, C) probabilities.
            present: (M, B) bool, False where a member was not asked or gave no row.
            inputs: (B, D), what ``select`` was given.

        Raises:
            RuleOptionError: there are no inputs.
            MemberCountError, ShapeError, QuorumError: as for every rule.
        """
        return super().fuse(outputs, present) if inputs is None else self.route(inputs).fuse(outputs, present)

    def _fuse_by_name(self, outputs: Tensor, present: Tensor) -> Fused:
        raise RuleOptionError(self.name, "inputs", None, f"give the request's {self.input_name}: the gate reads it")


class Route(Rule):
    """A gate's choice for the rows of one batch.

    Attributes:
        scores: (M, B), what the gate gives each member.
    """

    name = "gate"

    def __init__(self, scores: Tensor, members: Sequence[str], top_k: int):
        self.scores, self.top_k, self.num_members = scores, top_k, len(members)
        # Equal scores are ranked by name, and sums run in the order of names: the order of members changes no bit.
        self._order = torch.tensor([members.index(name) for name in sorted(members)])
        self._back = self._order.argsort()

    def select(self, available: Tensor | None = None) -> Tensor:
        """Whom to ask.

        Args:
            available: (M,) bool, or (M, B) where it differs by row, False for a member known to be down; None when all
                are up.

        Returns:
            (M, B) bool, the k best available members of each row, or all where there are fewer.

        Raises:
            ShapeError: available has another shape.
            QuorumError: nobody is available.
        """
        up = torch.ones(self.num_members, dtype=torch.bool) if available is None else available
        up = up.unsqueeze(1).expand_as(self.scores) if up.shape == (self.num_members,) else up
        if up.shape != self.scores.shape:
            raise ShapeError("available", f"({self.num_members},) or by row", str(tuple(up.shape)))
        if not bool(up.any()):
            raise QuorumError("one available member", "none")
        return self._best(up[self._order])[self._back]

    def _best(self, allowed: Tensor) -> Tensor:
        """(M, B) bool, the k best of those allowed; members in the order of names."""
        scores = self.scores[self._order].masked_fill(~allowed, -math.inf)
        ranks = scores.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
        return (ranks < self.top_k) & allowed

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        if self.scores.shape[1] != outputs.shape[1]:
            raise ShapeError(
                "outputs", f"({self.num_members}, {self.scores.shape[1]}, classes)", str(tuple(outputs.shape))
            )
        require(present.any(dim=0), "one member in every row", "a row without any")
        there = present[self._order]
        used = self._best(there)
        scores = self.scores[self._order].double()
        gates = scores.masked_fill(~used, -math.inf).softmax(dim=0)
        values = (gates.unsqueeze(-1) * outputs[self._order]).sum(dim=0)
        mass, best = scores.softmax(dim=0), self._best(torch.ones_like(there))
        coverage = (mass * used).sum(dim=0) / (mass * best).sum(dim=0)
        return Fused(values.float(), gates[self._back].float(), coverage.float())


def check_inputs(inputs: Tensor, labels: Tensor) -> None:
    """Raise ShapeError unless inputs are (N, D), finite, one row for each label."""
    if inputs.dim() != 2 or len(inputs) != len(labels) or not bool(torch.isfinite(inputs).all()):
        raise ShapeError("inputs", f"({len(labels)}, features), finite", str(tuple(inputs.shape)))


def fit_gate(
    members: Sequence[str],
    inputs: Tensor,
    outputs: Tensor,
    labels: Tensor,
    present: Tensor | None = None,
    *,
    input_name: str,
    top_k: int,
    hidden: int = 0,
    training: Training | None = None,
) -> Gate:
    """Train a gate on rows that the members were not trained on.

    The loss is that of the mixture of all members, ``-log sum of g_m p_m(label)`` (Jacobs et al. 1991, equation 1.3): a
    gate over the k best alone would teach nothing about the others, and with k = 1 nothing at all.

    Args:
        members: names, in the order of the outputs.
        inputs: (N, D), standardised inside by their mean and deviation.
        outputs: (M, N, C) probabilities.
        labels: (N,) integers in [0, C).
        present: (M, N) bool; None when every member answered.
        input_name: the request input that the rows are.
        top_k: members asked for a row.
        hidden: H.
        training: the settings.

    Raises:
        FusionError: arguments do not fit together.
        QuorumError: no row has a member.
    """
    if type(hidden) is not int or hidden < 0:
        raise RuleOptionError(Gate.name, "hidden", hidden, "give a whole number of 0 or more")
    check_inputs(inputs, labels)
    how, data = training or Training(), examples(members, outputs, labels, present)
    rows_in = inputs[data.kept].float()
    with seeded(how.seed):
        network = _Network(len(members), inputs.shape[1], hidden)
    network.fit(rows_in)
    given = label_column(data)

    def loss(rows: Tensor, there: Tensor) -> Tensor:
        gates = network(rows_in[rows]).masked_fill(~there, -math.inf).softmax(dim=0)
        return mixture_loss(gates, given[:, rows])

    train(loss, network.parameters(), data.present, how)
    return Gate(members, network, top_k, input_name, hidden)
