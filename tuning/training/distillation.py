"""One student that learns what an ensemble says, not only which class is right.

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2.
"""

# N rows, C classes, B batch

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.training.epochs import Training
from quorate.tuning.training.train import train
from quorate.tuning.training.training_run import Loss, Trained

_FLOOR = 1e-12


@dataclass(frozen=True)
class Distillation:
    """How the student learns.

    Attributes:
        temperature: both distributions are softened by it; above 1 shows what the teacher thinks of wrong classes.
        alpha: share of the hard labels in the loss, from 0 to 1.
        training: epochs, rates and seed.
    """

    temperature: float = 2.0
    alpha: float = 0.3
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not 0 <= self.alpha <= 1:
            raise TuningError("distillation", repr(self), "give a temperature above 0 and an alpha from 0 to 1")


def distil(
    config: Mapping[str, Any],
    rows: Labelled,
    teacher: NDArray[Any],
    validation: Labelled,
    how: Distillation | None = None,
) -> Trained:
    """Train a student on the teacher's probabilities.

    Args:
        config: the student's, as in a spec.
        rows: training rows with one input.
        teacher: (N, C) probabilities of those rows, such as an ensemble's fused predictions from the store.
        validation: rows that decide which epoch is kept.
        how: temperature, alpha, training.

    Raises:
        PredictionError: the teacher's rows are not finite probabilities of these rows.
        ArchitectureError, DataError, TuningError: as of ``train``.
    """
    how = how or Distillation()
    shape = (len(rows), len(rows.classes))
    if teacher.shape != shape or not np.isfinite(teacher).all() or teacher.min() < 0:
        found = f"shape {teacher.shape}, or numbers that are no probabilities"
        raise PredictionError("teacher", found, f"give {shape} probabilities, one row per training row")
    return train(config, rows, validation, how.training, loss=distillation_loss(teacher, rows.labels, how))


def distillation_loss(teacher: NDArray[Any], labels: NDArray[np.int64], how: Distillation) -> Loss:
    """alpha * cross-entropy + (1 - alpha) * T**2 * KL(teacher at T || student at T).

    The factor T**2 keeps the soft part's gradient of one size whatever T is (section 2 of the paper).
    """
    soft = torch.from_numpy(np.log(np.maximum(teacher, _FLOOR)).astype(np.float32) / how.temperature).softmax(dim=1)
    hard = torch.from_numpy(labels)

    def loss(logits: Tensor, index: Tensor) -> Tensor:
        rows = index.cpu()
        target, truth = soft[rows].to(logits.device), hard[rows].to(logits.device)
        cooled = nn.functional.log_softmax(logits / how.temperature, dim=1)
        imitation = nn.functional.kl_div(cooled, target, reduction="batchmean") * how.temperature**2
        return how.alpha * nn.functional.cross_entropy(logits, truth) + (1 - how.alpha) * imitation

    return loss
