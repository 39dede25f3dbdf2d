"""Attention over members' outputs: how much a member counts depends on its output and the others'."""

# M members, B batch, N rows, C classes, D width

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quorate.fusion.base import Fused, count_coverage
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.learned.base import LearnedRule, check_over, read
from quorate.fusion.training import Training, examples, label_column, mixture_loss, seeded, train


class _Network(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1) of one query over a token for each member.

    A member's token is a projection of its output plus an embedding of who it is; the query reads the mean token of the
    members that are present. Keys have no bias: it would shift all scores alike.
    """

    def __init__(self, num_members: int, num_classes: int, width: int):
        super().__init__()
        self.project = nn.Linear(num_classes, width, bias=False)
        self.embedding = nn.Parameter(torch.randn(num_members, width) / math.sqrt(width))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)

    def forward(self, answers: Tensor, present: Tensor) -> Tensor:
        """(M, B, C) and (M, B) bool to attention (M, B) float64, zero where absent."""
        there = present.unsqueeze(-1)
        tokens = torch.where(there, self.project(answers) + self.embedding.unsqueeze(1), 0.0)  # (M, B, D)
        query = self.query(tokens.sum(dim=0) / there.sum(dim=0))  # (B, D)
        scores = (self.key(tokens) * query).sum(dim=-1) / math.sqrt(query.shape[-1])
        # float64, so that the shares of 10^4 members still sum to one
        attention: Tensor = scores.double().masked_fill(~present, -math.inf).softmax(dim=0)
        return attention


class OutputAttention(LearnedRule):
    """Sum of a_m p_m, attention a over the members that answered. Make one with ``fit_output_attention``.

    The answer is a convex combination of members' outputs; absent members are masked out before the softmax, and
    members of the state may be left out of the spec. A member's contribution is its attention.
    """

    name = "output_attention"
    per_member = ("embedding",)
    network: _Network

    def __init__(self, members: Sequence[str], network: nn.Module, over: str = "probabilities"):
        check_over(self.name, over)
        super().__init__(members, network)
        self.over, self.options = over, {"over": over}

    @classmethod
    def _network(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
        width, num_classes = tensors["project.weight"].shape
        return _Network(len(tensors["embedding"]), num_classes, width)

    def _fuse_by_name(self, outputs: Tensor, present: Tensor) -> Fused:
        attention = self.network(read(outputs, self.over), present)
        values = (attention.unsqueeze(-1) * outputs).sum(dim=0)
        return Fused(values.float(), attention.float(), count_coverage(present))


def fit_output_attention(
    members: Sequence[str],
    outputs: Tensor,
    labels: Tensor,
    present: Tensor | None = None,
    *,
    over: str = "probabilities",
    width: int = 16,
    training: Training | None = None,
) -> OutputAttention:
    """Train attention for the log-loss of the fused answer on rows that the members were not trained on.

    Args:
        members: names, in the order of the outputs.
        outputs: (M, N, C) probabilities.
        labels: (N,) integers in [0, C).
        present: (M, N) bool; None when every member answered.
        over: what tokens are made of: ``probabilities``, or ``logits``, the logarithms of them.
        width: D.
        training: the settings.

    Raises:
        FusionError: arguments do not fit together.
        QuorumError: no row has a member.
    """
    check_over(OutputAttention.name, over)
    if type(width) is not int or width < 1:
        raise RuleOptionError(OutputAttention.name, "width", width, "give a whole number of 1 or more")
    how, data = training or Training(), examples(members, outputs, labels, present)
    answers = read(data.outputs, over)
    given = label_column(data)
    with seeded(how.seed):
        network = _Network(len(members), outputs.shape[2], width)

    def loss(rows: Tensor, there: Tensor) -> Tensor:
        return mixture_loss(network(answers[:, rows], there), given[:, rows])

    train(loss, network.parameters(), data.present, how)
    return OutputAttention(members, network, over)
