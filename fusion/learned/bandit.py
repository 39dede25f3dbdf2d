"""Bandit: cheap members answer first, and what they say chooses which dear ones are asked, if any.

A contextual bandit over sets of members: the context is what the members of ``first`` say, an arm a set of others to
ask, its reward being right less a price for what it costs. Each arm has a linear model of its reward (Li, Chu, Langford
and Schapire 2010, "A contextual-bandit approach to personalized news article recommendation", section 3.1, ridge
regression for each arm), and the arm that promises most is pulled. A share ``explore`` of rows, drawn at random, asks
everybody instead, so that what other policies would have earned can be estimated from answers: of a row that asked more
members it is known what each set within these answers, so that one that asked all tells of every arm, and drawing one
of the arms would tell less for what it costs. Every arm's chance is known.

    asked = bandit.select(outputs, present)    # (M, B) bool, once the first members are in
    fused = bandit.fuse(outputs, present)      # takes the same decisions again

Decisions are taken on outputs rounded to half precision, and a row's draw is a hash of them: an answer recorded in
float16 is decided the same again, and the same request always gets the same answer.
"""

# M members, B batch, N rows, C classes, K arms, D numbers of a context

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quorate.fusion.base import Fused
from quorate.fusion.errors import QuorumError, RuleOptionError, ShapeError
from quorate.fusion.evaluation.risk_control import check_confidence, mean_p_value, passed
from quorate.fusion.learned.base import LearnedRule
from quorate.fusion.training import examples

# Of a context beside the C probabilities: a one, the largest, its square and its distance from 1 in logarithms, its
# lead over the second, entropy, how much weight votes for it.
_FEATURES = 7
_FLOOR = 1e-3
_ODD = np.uint64(0x9E3779B97F4A7C15)
# Of being right once, for all dear members together: what is tried, the safest first. Below 0 it is a reward: at -2
# everybody is asked whatever the models say.
_STEPS = tuple(0.001 * 1.35**number for number in range(26))
_PRICES = (-2.0, *(-step for step in reversed(_STEPS)), 0.0, *_STEPS)


class _Policy(nn.Module):
    """Weights of members and a linear model of each arm's reward."""

    weight: Tensor
    theta: Tensor

    def __init__(self, num_members: int, arms: int, width: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_members, dtype=torch.float64))
        self.register_buffer("theta", torch.zeros(arms, width, dtype=torch.float64))


class Bandit(LearnedRule):
    """The weighted mean of the first members and of those that are chosen by what they say. Make one with
    ``fit_bandit``.

    Where a first member is missing everybody is asked. Coverage is the share that answered of the weight that was
    asked.

    Attributes:
        first: names of the members that are always asked.
        arms: sets of others, one of them all others.
        costs: of a row by member of the arms; what matters are their ratios.
        price: of asking all others, in being right once; below 0 for more care than the models ask for.
        explore: share of rows, drawn at random, that ask everybody.
        max_loss, confidence: the floor that it was proven to keep, and keeps as it learns (``online``): so much less
            accuracy than asking everybody at most, so surely; nobody said when None.
        everyone: the number of the arm that asks all others.
    """

    name = "bandit"
    per_member: ClassVar[tuple[str, ...]] = ("weight",)
    every_member: ClassVar[bool] = True
    network: _Policy

    def __init__(
        self, members: Sequence[str], network: nn.Module, first: Sequence[str], arms: Sequence[Sequence[str]],
        costs: Mapping[str, float], price: float = 0.0, explore: float = 0.0, max_loss: float | None = None,
        confidence: float = 0.95,
    ):  # fmt: skip
        super().__init__(members, network)
        self.first, self.arms = tuple(first), tuple(tuple(sorted(arm)) for arm in arms)
        self.costs, self.price, self.explore = dict(costs), price, explore
        self.max_loss, self.confidence = max_loss, confidence
        self._check()
        self.options = {
            "first": list(self.first), "arms": [list(arm) for arm in self.arms], "costs": self.costs,
            "price": price, "explore": explore,
        }  # fmt: skip
        if max_loss is not None:
            self.options |= {"max_loss": max_loss, "confidence": confidence}
        names = sorted(self.members)
        self._first = torch.tensor([name in self.first for name in names])
        self._asks = torch.tensor([[name in self.first or name in arm for name in names] for arm in self.arms])
        self.everyone = max(range(len(self.arms)), key=lambda arm: len(self.arms[arm]))
        whole = sum(self.costs.values()) or 1.0
        self.arm_costs = torch.tensor([sum(self.costs[n] for n in arm) / whole for arm in self.arms]).double()

    def _check(self) -> None:
        others = sorted(set(self.members) - set(self.first))
        if not self.first or not set(self.first) <= set(self.members):
            fix = f"name some of {', '.join(self.members)}"
            raise RuleOptionError(self.name, "first", list(self.first), fix)
        known = len(set(self.arms)) == len(self.arms) and all(set(arm) <= set(others) for arm in self.arms)
        if not known or tuple(others) not in self.arms:
            fix = f"give different sets of {', '.join(others)}, one of them all of these"
            raise RuleOptionError(self.name, "arms", [list(arm) for arm in self.arms], fix)
        if sorted(self.costs) != others or not all(0 < cost < math.inf for cost in self.costs.values()):
            raise RuleOptionError(self.name, "costs", self.costs, f"give {', '.join(others)} a number above 0 each")
        if not math.isfinite(self.price):
            raise RuleOptionError(self.name, "price", self.price, "give a finite number")
        if not 0 <= self.explore <= 1:
            raise RuleOptionError(self.name, "explore", self.explore, "give a share of rows in [0, 1]")
        if self.max_loss is not None and not 0 <= self.max_loss <= 1:
            raise RuleOptionError(self.name, "max_loss", self.max_loss, "give a share of rows in [0, 1]")
        check_confidence(self.name, self.confidence)

    @classmethod
    def _network(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
        theta = tensors["theta"]
        if len(theta) != len(options["arms"]):
            raise ValueError("as many arms as it was fitted for")
        return _Policy(len(tensors["weight"]), *theta.shape)

    @classmethod
    def _read_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        for option in ("first", "arms", "costs"):
            if option not in options:
                raise RuleOptionError(cls.name, option, None, "give it: a bandit has no default")
        return dict(options)

    def at_price(self, price: float) -> Bandit:
        """The same with another price."""
        return self._with(self.network, {"price": price})

    def keeping(self, max_loss: float, confidence: float) -> Bandit:
        """The same, with a floor that it is to keep."""
        return self._with(self.network, {"max_loss": max_loss, "confidence": confidence})

    def with_models(self, theta: Tensor, price: float) -> Bandit:
        """The same with other models of what arms promise, (K, D) float64, and another price."""
        network = _Policy(len(self.network.weight), *theta.shape)
        network.load_state_dict({"weight": self.network.weight, "theta": theta})
        return self._with(network, {"price": price})

    def _with(self, network: nn.Module, changed: Mapping[str, Any]) -> Bandit:
        return Bandit(self.members, network, **{**self.options, **changed})

    def select(self, outputs: Tensor, present: Tensor) -> Tensor:
        """Whom to ask beside the first: (M, B) bool, the first among them.

        Args:
            outputs: (M, B, C) probabilities; only those of the first members are read.
            present: (M, B) bool, False where a member was not asked or gave no row.
        """
        given = self._given(outputs, present)
        return self._asks[self._decide(*given)].T[self._back]

    def chances(self, outputs: Tensor, present: Tensor) -> Tensor:
        """(B, K) float64: how likely each arm was to be pulled; arguments as of ``select``."""
        given = self._given(outputs, present)
        return self.explored(self._greedy(*given))

    def explored(self, chosen: Tensor) -> Tensor:
        """(N, K) float64 chances of arms where (N,) are those of rows that are not explored."""
        chances = nn.functional.one_hot(chosen, len(self.arms)).double() * (1 - self.explore)
        chances[:, self.everyone] += self.explore
        return chances

    def choices(self, promised: Tensor) -> Tensor:
        """(N,) the arm of each row that is not explored, by (N, K) promises."""
        return (promised - self.price * self.arm_costs).argmax(dim=1)

    def context(self, outputs: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) float64 what arms are chosen by, and (B,) rows in which all first members say something; arguments
        as of ``select``.
        """
        said, whole = self._given(outputs, present)
        return contexts(said, self.network.weight[self._first]), whole

    @property
    def theta(self) -> Tensor:
        """(K, D) float64 of each arm's linear model."""
        return self.network.theta

    def promises(self, context: Tensor) -> Tensor:
        """(N, K) float64 how likely each arm's answer is right, as its model has it of (N, D) contexts."""
        # Not a matrix product: its sums may depend on how many rows there are.
        return (context.unsqueeze(1) * self.network.theta).sum(dim=-1)

    def answers(self, outputs: Tensor) -> Tensor:
        """(K, N, C) what each arm answers rows that all its members answered.

        Args:
            outputs: (M, N, C) probabilities.
        """
        ordered = outputs[self._order].double()
        weights = self.network.weight * self._asks
        return torch.einsum("km,mnc->knc", weights / weights.sum(dim=1, keepdim=True), ordered)

    def alone(self, outputs: Tensor) -> Tensor:
        """(N, C) what the first members answer by themselves; arguments as of ``answers``."""
        weights = self.network.weight * self._first
        return torch.einsum("m,mnc->nc", weights / weights.sum(), outputs[self._order].double())

    def _given(self, outputs: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """(F, B, C) what the first members say, rounded; and (B,) rows in which all of them do."""
        rows = self._order[self._first]
        there = present[rows] & torch.isfinite(outputs[rows]).all(dim=-1)
        said = torch.where(there.unsqueeze(-1), outputs[rows].detach(), 0.0).half()
        return said, there.all(dim=0)

    def _decide(self, said: Tensor, whole: Tensor) -> Tensor:
        """(B,) the arm of each row."""
        greedy = self._greedy(said, whole)
        if not self.explore:
            return greedy
        return torch.where(torch.from_numpy(_draws(said)) < self.explore, self.everyone, greedy)

    def _greedy(self, said: Tensor, whole: Tensor) -> Tensor:
        return torch.where(whole, self.choices(self._promised(said)), self.everyone)

    def _promised(self, said: Tensor) -> Tensor:
        weights = self.network.weight[self._first]
        context = contexts(said, weights)
        if context.shape[1] != self.network.theta.shape[1]:
            wanted = f"(members, rows, {self.network.theta.shape[1] - _FEATURES})"
            raise ShapeError("outputs", wanted, f"(members, rows, {said.shape[2]})")
        return self.promises(context)

    def _fuse_by_name(self, outputs: Tensor, present: Tensor) -> Fused:
        said, there = outputs[self._first].detach().half(), present[self._first]
        arm = self._decide(said, there.all(dim=0))
        asked = self._asks[arm].T
        weights = self.network.weight.unsqueeze(1) * asked
        heard = (weights * present).sum(dim=0)
        if bool((heard <= 0).any()):
            raise QuorumError("one member with weight above 0 in every row", "a row without any")
        shares = weights * present / heard
        values = (shares.unsqueeze(-1) * outputs).sum(dim=0)
        return Fused(values.float(), shares.float(), (heard / weights.sum(dim=0)).float())


def contexts(said: Tensor, weights: Tensor) -> Tensor:
    """(B, D) float64 what is read of the first members.

    Args:
        said: (F, B, C) probabilities.
        weights: (F,) of the members.
    """
    shares = (weights / weights.sum()).reshape(-1, 1, 1)
    pooled = (shares * said.double()).sum(dim=0)
    top = torch.nn.functional.pad(pooled, (0, 1)).topk(2, dim=1).values
    entropy = -torch.xlogy(pooled, pooled).sum(dim=1) / math.log(max(pooled.shape[1], 2))
    votes = (shares[..., 0] * (said.argmax(dim=2) == pooled.argmax(dim=1))).sum(dim=0)
    far = (1 - top[:, 0]).clamp(min=0) + _FLOOR
    parts = (torch.ones_like(far), top[:, 0], top[:, 0] ** 2, far.log() / math.log(_FLOOR), top[:, 0] - top[:, 1],
             entropy, votes)  # fmt: skip
    return torch.cat([torch.stack(parts, dim=1), pooled], dim=1)


def _draws(said: Tensor) -> NDArray[np.float64]:
    """(B,) numbers in [0, 1) that look drawn, each a hash of a row's bits (SplitMix64's finaliser over all words)."""
    bits = said.numpy().view(np.uint16).transpose(1, 0, 2).reshape(said.shape[1], -1).astype(np.uint64)
    places = np.arange(1, bits.shape[1] + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        total = _mixed(bits * np.uint64(0x10001) + _mixed(places * _ODD)).sum(axis=1, dtype=np.uint64)
        mixed = _mixed(total)
    return np.asarray((mixed >> np.uint64(11)) / float(1 << 53))


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(words ^ (words >> np.uint64(31)))


def fit_bandit(
    members: Sequence[str], first: Sequence[str], arms: Sequence[Sequence[str]], outputs: Tensor, labels: Tensor,
    present: Tensor | None = None, *, weights: Sequence[float] | None = None, costs: Mapping[str, float] | None = None,
    explore: float = 0.0, ridge: float = 1.0, chances: Tensor | None = None,
) -> Bandit:  # fmt: skip
    """Fit each arm's model of being right, at a price of 0; see ``proven_price``.

    Of a row that all members answered every arm's reward is known, whichever was pulled: full information, which no
    propensity could better. Of one that only some answered, those of the arms within these; such rows count as many
    times as there were others of which it is not known, one over the chance that it would be.

    Args:
        members: names, in the order of the outputs.
        first, arms, explore: as of ``Bandit``.
        outputs: (M, N, C) probabilities.
        labels: (N,) integers in [0, C).
        present: (M, N) bool; None when every member answered.
        weights: by member, in their order; equal when left out.
        costs: of a row by member; equal when left out.
        ridge: of the regressions.
        chances: (N, K) with which the arms were pulled when the answers were given, where some were not asked; those
            known of all when None.

    Raises:
        FusionError: arguments do not fit together.
        QuorumError: no row has a member.
    """
    data = examples(members, outputs, labels, present)
    paid = {name: 1.0 if costs is None else float(costs[name]) for name in members if name not in first}
    own_weights = torch.tensor([1.0] * len(members) if weights is None else list(weights), dtype=torch.float64)
    classes = data.outputs.shape[2]
    network = _Policy(len(members), len(arms), _FEATURES + classes)
    order = sorted(range(len(members)), key=lambda at: members[at])
    network.weight.copy_(own_weights[order])
    rule = Bandit(members, network, first, arms, paid, 0.0, explore)
    # ``examples`` puts members in the order of their names.
    by_name = Bandit(sorted(members), network, first, arms, paid, 0.0, explore)
    said, whole = by_name._given(data.outputs, data.present)
    context = contexts(said, network.weight[by_name._first])
    right = (by_name.answers(data.outputs).argmax(dim=2) == data.labels).double()
    known = (data.present.T.unsqueeze(1) | ~by_name._asks).all(dim=2)  # (N, K)
    counts = _counts(by_name, known, whole, None if chances is None else chances[data.kept].double())
    for arm in range(len(arms)):
        weighted = context * counts[:, arm : arm + 1]
        gram = weighted.T @ context + ridge * torch.eye(context.shape[1], dtype=torch.float64)
        network.theta[arm] = torch.linalg.solve(gram, weighted.T @ right[arm])
    return rule


def _counts(rule: Bandit, known: Tensor, whole: Tensor, chances: Tensor | None) -> Tensor:
    """(N, K) how often each row counts for each arm: one over the chance that its reward would be known."""
    if chances is None:
        return known.double() * whole.unsqueeze(1)
    within = torch.tensor([[set(arm) <= set(other) for other in rule.arms] for arm in rule.arms]).double()
    seen = chances @ within.T
    return torch.where(known & whole.unsqueeze(1), 1 / seen.clamp(min=1e-12), 0.0)


def kept_price(rule: Bandit, outputs: Tensor, labels: Tensor, max_loss: float) -> Bandit:
    """The rule at the highest price at which the floor is kept on these very rows; see ``proven_price``."""
    right = (rule.answers(outputs).argmax(dim=2) == labels).double().T
    everyone = torch.ones(outputs.shape[:2], dtype=torch.bool)
    kept = _PRICES[0]
    for price in _PRICES:
        chances = rule.at_price(price).chances(outputs, everyone)
        if float((right[:, rule.everyone] - (chances * right).sum(dim=1)).mean()) > max_loss:
            break
        kept = price
    return rule.at_price(kept)


def proven_price(
    rule: Bandit, outputs: Tensor, labels: Tensor, *, max_loss: float, confidence: float,
    beside: Tensor | None = None, seed: int = 0,
) -> Bandit | None:  # fmt: skip
    """The rule at the highest price that is shown to keep a floor of accuracy; None where no price is.

    The floor is the accuracy of what would answer instead, less ``max_loss``. Prices are tested one after the other,
    from that at which everybody is asked (``risk_control``), each on all that the policy may do, exploring too: of
    every row all arms' answers are known, and the policy's chances.

    Args:
        rule: fitted on other rows.
        outputs: (M, N, C) probabilities of all members.
        labels: (N,) integers in [0, C).
        confidence: over the draw of these rows.
        beside: (N,) bool, whether what would answer instead is right; the weighted mean of all members when None.
        seed: of the order in which rows are bet on.

    Raises:
        RuleOptionError: a share that is none.
    """
    if not 0 <= max_loss <= 1:
        raise RuleOptionError(Bandit.name, "max_loss", max_loss, "give a share of rows in [0, 1]")
    check_confidence(Bandit.name, confidence)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    outputs, labels = outputs[:, order], labels[order]
    right = (rule.answers(outputs).argmax(dim=2) == labels).double().T  # (N, K)
    other = right[:, rule.everyone] if beside is None else beside[order].double()
    everyone = torch.ones(outputs.shape[:2], dtype=torch.bool)

    def p_value(number: int) -> float:
        chances = rule.at_price(_PRICES[number]).chances(outputs, everyone)
        return mean_p_value((other - (chances * right).sum(dim=1)).numpy(), max_loss, 1 - confidence)

    good = passed(p_value, [0], len(_PRICES), 1 - confidence)
    return rule.at_price(_PRICES[good[-1]]).keeping(max_loss, confidence) if good else None
