"""Training of learned rules on stored predictions: examples, member dropout, and AdamW.

All of it is deterministic for a seed, on one machine and thread count.
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from quorate.fusion.base import check_mask
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError


@dataclass(frozen=True)
class Training:
    """How a rule is trained.

    Attributes:
        member_dropout: chance that a member is left out of a row: a missing member is something the rule has seen.
        weight_decay: AdamW's.
        learning_rate: AdamW's, falling to 0 along a cosine.
        batch_rows: rows in a step.
        seed: of the first parameters, the batches and the members left out.
    """

    steps: int = 600
    batch_rows: int = 256
    learning_rate: float = 0.01
    weight_decay: float = 1e-3
    member_dropout: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for option, good in (
            ("steps", self.steps >= 1),
            ("batch_rows", self.batch_rows >= 1),
            ("learning_rate", self.learning_rate > 0),
            ("weight_decay", self.weight_decay >= 0),
            ("member_dropout", 0 <= self.member_dropout < 1),
        ):
            if not good:
                fix = "give steps, batch_rows >= 1, learning_rate > 0, weight_decay >= 0, member_dropout in [0, 1)"
                raise RuleOptionError("Training", option, getattr(self, option), fix)


@dataclass(frozen=True)
class Examples:
    """Checked training rows, each with at least one member.

    Attributes:
        outputs: (M, N, C) float32, members in the order of their names, absent rows zeroed.
        labels: (N,) int64 in [0, C).
        present: (M, N) bool.
        kept: (N_given,) bool, which of the given rows these are: a row without any member teaches nothing.
    """

    outputs: Tensor
    labels: Tensor
    present: Tensor
    kept: Tensor


def examples(members: Sequence[str], outputs: Tensor, labels: Tensor, present: Tensor | None) -> Examples:
    """Check and clean members' predictions on labelled rows, and put members in the order of their names.

    Args:
        members: names, in the order of the outputs.
        outputs: (M, N, C) probabilities.
        labels: (N,) integers in [0, C).
        present: (M, N) bool; None when every member answered. Rows that are not finite are absent.

    Raises:
        MemberCountError: there are more or fewer outputs than names.
        ShapeError: an argument has another shape.
        RuleOptionError: a label is no class.
        QuorumError: no row has a member.
    """
    if outputs.dim() != 3:
        raise ShapeError("outputs", "(members, rows, classes)", str(tuple(outputs.shape)))
    if len(members) != len(outputs):
        raise MemberCountError(len(members), len(outputs))
    if labels.shape != outputs.shape[1:2]:
        raise ShapeError("labels", f"({outputs.shape[1]},)", str(tuple(labels.shape)))
    if present is not None:
        check_mask(present, tuple(outputs.shape[:2]))
    if labels.is_floating_point() or bool(((labels < 0) | (labels >= outputs.shape[2])).any()):
        raise RuleOptionError("fit", "labels", str(labels.dtype), f"give class numbers, 0 to {outputs.shape[2] - 1}")
    outputs = outputs.float()  # what float32 cannot hold is infinite
    finite = torch.isfinite(outputs).all(dim=-1)
    present = finite if present is None else finite & present
    kept = present.any(dim=0)
    if not bool(kept.any()):
        raise QuorumError("a row with a member", "none")
    clean = torch.where(present.unsqueeze(-1), outputs, 0.0)
    order = sorted(range(len(members)), key=lambda index: members[index])
    return Examples(clean[order][:, kept], labels[kept].long(), present[order][:, kept], kept)


def label_column(data: Examples) -> Tensor:
    """(M, N), the probability each member gave the label: all of its output that log-loss of a mixture reads."""
    columns = data.labels.view(1, -1, 1).expand(len(data.outputs), -1, 1)
    return data.outputs.gather(2, columns).squeeze(-1)


def mixture_loss(shares: Tensor, given: Tensor) -> Tensor:
    """Mean of -log(sum of shares * given), both (M, n), floored at a likelihood of 1e-12."""
    return -(shares * given).sum(dim=0).clamp(min=1e-12).log().mean()


def drop_members(present: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Leave members out at random, for training; every row keeps at least one of those it has.

    Args:
        present: (M, N) bool.
        rate: chance that a member is left out of a row.
        generator: on the CPU; the same state gives the same rows.

    Returns:
        (M, N) bool, a subset of ``present``.
    """
    drawn = torch.rand(present.shape, generator=generator).to(present.device)
    last = drawn.masked_fill(~present, -1.0).argmax(dim=0)
    kept = present & (drawn >= rate)
    return kept.scatter(0, last.unsqueeze(0), present.gather(0, last.unsqueeze(0)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let first parameters come from ``seed`` and leave the caller's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train(
    loss: Callable[[Tensor, Tensor], Tensor], parameters: Iterable[Tensor], present: Tensor, how: Training
) -> None:
    """AdamW on batches drawn with replacement, members left out anew in every step.

    Args:
        loss: of row numbers (n,) and who is present in them (M, n).
        parameters: changed in place.
        present: (M, N) bool, at least one member in each row.
        how: the settings.
    """
    generator = torch.Generator().manual_seed(how.seed)
    optimizer = torch.optim.AdamW(list(parameters), lr=how.learning_rate, weight_decay=how.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.steps)
    for _ in range(how.steps):
        rows = torch.randint(0, present.shape[1], (how.batch_rows,), generator=generator)
        left = drop_members(present[:, rows], how.member_dropout, generator)
        optimizer.zero_grad()
        loss(rows, left).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
