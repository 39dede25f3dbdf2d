"""Stacking: a second model learns from the members' outputs (Wolpert 1992, "Stacked generalization")."""

# M members, B batch, N rows, C classes, H hidden units

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from quorate.fusion.base import Fused, count_coverage, equal_shares
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.learned.base import LearnedRule, check_over, read
from quorate.fusion.learned.logistic_regression import fit_logistic_regression
from quorate.fusion.training import Training, drop_members, examples, seeded, train


class _Network(nn.Module):
    """Logits from members' outputs: linear (H = 0), or one hidden layer of ReLUs.

    Where a member is absent its stand-in is added instead of its output times its weight: a missing-value indicator,
    which keeps the linear network's loss convex.
    """

    def __init__(self, num_members: int, num_classes: int, hidden: int):
        super().__init__()
        first = hidden or num_classes
        # As nn.Linear over the members' concatenated outputs would start.
        bound = (num_members * num_classes) ** -0.5
        self.weight = nn.Parameter(torch.empty(num_members, num_classes, first).uniform_(-bound, bound))
        self.stand_in = nn.Parameter(torch.zeros(num_members, first))
        self.bias = nn.Parameter(torch.zeros(first))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(hidden, num_classes)) if hidden else nn.Identity()

    def forward(self, answers: Tensor, present: Tensor) -> Tensor:
        """(M, B, C) and (M, B) bool to (B, C)."""
        masked = torch.where(present.unsqueeze(-1), answers, 0.0)
        missing = (~present).to(answers.dtype)
        first = torch.einsum("mbc,mch->bh", masked, self.weight) + missing.T @ self.stand_in + self.bias
        logits: Tensor = self.head(first)
        return logits

    def explain(self, answers: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C), and how far the winning one moves when a member is replaced by its stand-in (M, B)."""
        moves = (torch.bmm(answers, self.weight) - self.stand_in.unsqueeze(1)) * present.unsqueeze(-1)  # (M, B, H)
        first = moves.sum(dim=0) + self.stand_in.sum(dim=0) + self.bias
        logits: Tensor = self.head(first)
        winner = logits.argmax(dim=-1, keepdim=True)  # (B, 1)
        without = self.head(first - moves).gather(2, winner.expand(len(answers), -1, 1))
        moved: Tensor = (logits.gather(1, winner) - without).squeeze(-1)
        return logits, moved.abs() * present

    @torch.no_grad()
    def stand_in_by_mean(self, answers: Tensor, present: Tensor, members: Tensor) -> None:
        """Let the stand-in of some members, (M,) bool, be what their mean output over present rows adds."""
        masked = torch.where(present.unsqueeze(-1), answers, 0.0).sum(dim=1)
        mean = masked / present.sum(dim=1, keepdim=True).clamp(min=1)
        of_mean = torch.bmm(mean.unsqueeze(1), self.weight).squeeze(1)
        self.stand_in[members] = of_mean[members]


class Stacking(LearnedRule):
    """Softmax of a linear or one-hidden-layer network over the members' outputs. Make one with ``fit_stacking``.

    A learned stand-in takes an absent member's place; a member that training never missed is stood in for by its mean
    output. Where one of several members is all there is, its output is the answer: what the network makes of the
    others' stand-ins is no better. A member's contribution is how far the winning class's logit moves when the stand-in
    replaces it, as a share of all members' moves: in a linear network with mean stand-ins, its SHAP value without the
    sign (Lundberg and Lee 2017, section 4.2).
    """

    name = "stacking"
    per_member = ("weight", "stand_in")
    every_member = True
    network: _Network

    def __init__(self, members: Sequence[str], network: nn.Module, over: str = "probabilities", hidden: int = 0):
        check_over(self.name, over)
        super().__init__(members, network)
        self.over, self.options = over, {"over": over, "hidden": hidden}

    @classmethod
    def _network(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
        num_members, num_classes, _ = tensors["weight"].shape
        return _Network(num_members, num_classes, options.get("hidden", 0))

    def _fuse_by_name(self, outputs: Tensor, present: Tensor) -> Fused:
        logits, influences = self.network.explain(read(outputs, self.over), present)
        total = influences.sum(dim=0)
        shares = torch.where(total > 0, influences / total.clamp(min=1e-30), equal_shares(present))
        alone = (present.sum(dim=0) == 1).unsqueeze(-1) & (len(present) > 1)
        values = torch.where(alone, outputs.sum(dim=0), logits.softmax(dim=-1))
        return Fused(values, shares, count_coverage(present))


def fit_stacking(
    members: Sequence[str],
    outputs: Tensor,
    labels: Tensor,
    present: Tensor | None = None,
    *,
    over: str = "probabilities",
    hidden: int = 0,
    l2: float = 1e-3,
    training: Training | None = None,
) -> Stacking:
    """Train a stacking rule for log-loss on rows that the members were not trained on.

    With ``hidden`` 0 it is the optimum of mean log-loss + l2 / 2 * squared weights and stand-ins, scikit-learn's
    ``LogisticRegression(C=1 / (l2 * N))``; members left out are drawn once for each row. Otherwise AdamW trains a
    hidden layer, members left out anew in every step.

    Args:
        members: names, in the order of the outputs.
        outputs: (M, N, C) probabilities.
        labels: (N,) integers in [0, C).
        present: (M, N) bool; None when every member answered.
        over: what the network reads: ``probabilities``, or ``logits``, the logarithms of them.
        hidden: H.
        l2: the linear network's penalty; the hidden one has ``training.weight_decay``.
        training: seed and member dropout for both networks, the rest for the hidden one.

    Raises:
        FusionError: arguments do not fit together.
        QuorumError: no row has a member.
    """
    check_over(Stacking.name, over)
    if type(hidden) is not int or hidden < 0 or not l2 >= 0:
        raise RuleOptionError(Stacking.name, "hidden, l2", (hidden, l2), "give a whole number and a number, both >= 0")
    how, data = training or Training(), examples(members, outputs, labels, present)
    answers = read(data.outputs, over)
    with seeded(how.seed):
        network = _Network(len(members), outputs.shape[2], hidden)
    if hidden:
        network.stand_in_by_mean(answers, data.present, torch.ones(len(members), dtype=torch.bool))
        seen = data.present if how.member_dropout == 0 else torch.zeros_like(data.present)
        train(
            lambda rows, there: cross_entropy(network(answers[:, rows], there), data.labels[rows]),
            network.parameters(),
            data.present,
            how,
        )
    else:
        seen = drop_members(data.present, how.member_dropout, torch.Generator().manual_seed(how.seed))
        _fit_linear(network, answers, seen, data.labels, l2)
    network.stand_in_by_mean(answers, data.present, seen.all(dim=1))
    return Stacking(members, network, over, hidden)


@torch.no_grad()
def _fit_linear(network: _Network, answers: Tensor, seen: Tensor, labels: Tensor, l2: float) -> None:
    """Logistic regression on outputs (M, N, C) where seen (M, N), and on indicators of who is missing."""
    num_members, rows, num_classes = answers.shape
    masked = torch.where(seen.unsqueeze(-1), answers, 0.0).permute(1, 0, 2).reshape(rows, -1)
    features = torch.cat([masked, (~seen).T, torch.ones(rows, 1)], dim=1).double().numpy()
    penalised = np.arange(features.shape[1]) < features.shape[1] - 1  # not the bias
    found = torch.from_numpy(fit_logistic_regression(features, labels.numpy(), num_classes, l2, penalised))
    network.weight.copy_(found[: masked.shape[1]].view(num_members, num_classes, num_classes))
    network.stand_in.copy_(found[masked.shape[1] : -1])
    network.bias.copy_(found[-1])
