"""What a composite is trained for: the fused answer, each branch by itself, what other rows and a teacher teach."""

# B batch, M members of the answer, C classes, K values

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, cross_entropy, kl_div, mse_loss

from quorate.tuning.data.labelled import Labelled, is_multilabel
from quorate.tuning.errors import TuningError

Task = Literal["classes", "labels", "values"]
_FLOOR = 1e-12


@dataclass(frozen=True)
class Objective:
    """What counts for how much, beside the loss of the fused answer.

    Attributes:
        auxiliary: of the mean loss of the branches, each by itself: members of the answer, and trained members that
            give features, through a linear head that is thrown away.
        member_dropout: chance that a modality (members that read the same request inputs; single members where all
            read the same) is left out of a row.
        consistency: of the divergence between answers with everybody and with some left out, on rows without labels.
        temperature: by which a teacher's answers are softened (Hinton et al. 2015, section 2).
        label_share: of the labels where there is a teacher too; the rest is the teacher's.
    """

    auxiliary: float = 0.3
    member_dropout: float = 0.2
    consistency: float = 1.0
    temperature: float = 2.0
    label_share: float = 0.3

    def __post_init__(self) -> None:
        shares = 0 <= self.member_dropout < 1 and 0 <= self.label_share <= 1
        if not shares or self.auxiliary < 0 or self.consistency < 0 or not self.temperature > 0:
            fix = "give auxiliary, consistency >= 0, member_dropout in [0, 1), label_share in [0, 1], temperature > 0"
            raise TuningError("objective", repr(self), fix)


def task_of(data: Labelled) -> Task:
    """Which of classes, several labels, or values the rows' labels are."""
    if not data.classes:
        return "values"
    return "labels" if is_multilabel(data) else "classes"


def answer_loss(task: Task, answer: Tensor, labels: Tensor) -> Tensor:
    """(B,) log-loss of probabilities (B, C), mean over labels where there are several; squared error of values.

    Args:
        labels: (B,) class numbers; (B, C) of 0 and 1; (B, K) values.
    """
    if task == "classes":
        return -answer.gather(1, labels.unsqueeze(1)).squeeze(1).clamp(min=_FLOOR).log()
    if task == "labels":
        return binary_cross_entropy(answer.clamp(0, 1), labels.float(), reduction="none").mean(dim=1)
    return mse_loss(answer, labels.float(), reduction="none").mean(dim=1)


def head_loss(task: Task, raw: Tensor, labels: Tensor) -> Tensor:
    """(B,) the same of what an auxiliary head gives: logits, one for each label where there are several; or values."""
    if task == "classes":
        return cross_entropy(raw, labels, reduction="none")
    return answer_loss(task, raw.sigmoid() if task == "labels" else raw, labels)


def imitation(task: Task, answer: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(B,) how far an answer (B, C) is from a teacher's.

    Of classes T**2 KL(teacher at T || answer at T) (Hinton et al. 2015, section 2); of labels their cross-entropy, of
    values the squared error.
    """
    if task == "labels":
        return binary_cross_entropy(answer.clamp(0, 1), teacher, reduction="none").mean(dim=1)
    if task == "values":
        return mse_loss(answer, teacher, reduction="none").mean(dim=1)
    cooled = (answer.clamp(min=_FLOOR).log() / temperature).log_softmax(dim=1)
    target = (teacher.clamp(min=_FLOOR).log() / temperature).log_softmax(dim=1)
    return kl_div(cooled, target, log_target=True, reduction="none").sum(dim=1) * temperature**2


def mean_where(losses: Tensor, counted: Tensor) -> Tensor:
    """The mean of the rows that count, 0 where none does; both (B,)."""
    kept = torch.where(counted, losses, 0.0)
    return kept.sum() / counted.sum().clamp(min=1)
