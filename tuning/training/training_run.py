"""The training of one member's network: images in, classes out."""

# B batch, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quorate.tuning.architectures.networks import ConvNet, build
from quorate.tuning.architectures.table_network import TableNet
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import DataError
from quorate.tuning.training.epochs import Epoch, EpochRun, Training

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Trained:
    """A network in the state of its best epoch, in eval mode on the CPU."""

    model: nn.Module
    best: Epoch
    history: tuple[Epoch, ...]


class TrainingRun(EpochRun):
    """A training of ``build(**config)`` on images."""

    def __init__(
        self,
        config: Mapping[str, Any],
        rows: Labelled,
        validation: Labelled,
        training: Training,
        loss: Loss | None = None,
        start: Mapping[str, Tensor] | None = None,
    ):
        """Arguments and errors as of ``train``.

        Args:
            start: weights to begin with, where there are some of that name and shape.
        """
        self._images, self._held_out = (_image(data).to(training.device) for data in (rows, validation))
        self._labels, self._truth = torch.from_numpy(rows.labels).to(training.device), validation.labels
        self._loss = loss or (lambda logits, index: nn.functional.cross_entropy(logits, self._labels[index]))
        shape = list(self._images.shape[1:])
        full = {"image": [*[1] * (3 - len(shape)), *shape], "classes": len(rows.classes), **config, "format": "fp32"}
        self.family = str(full.get("family", "cnn"))
        super().__init__(lambda: _made(full, self._images, start or {}), len(self._images), training)

    def result(self) -> Trained:
        """The network of the best epoch so far.

        Raises:
            TuningError: no epoch's log-loss was finite.
        """
        return Trained(*self.best_model(), tuple(self.history))

    def _loss_of(self, index: Tensor) -> Tensor:
        return self._loss(self.model(_jittered(self._images[index], self.training.jitter)), index)

    def _judged(self) -> tuple[float, float]:
        logits, truth = predict_logits(self.model, self._held_out).cpu(), torch.from_numpy(self._truth)
        loss = nn.functional.cross_entropy(logits, truth).item()
        return loss, (logits.argmax(dim=1) == truth).float().mean().item()


def _made(config: Mapping[str, Any], images: Tensor, start: Mapping[str, Tensor]) -> nn.Module:
    model = build(**config)
    if isinstance(model, TableNet):
        model.fit_inputs(images.cpu())
    own = model.state_dict()
    model.load_state_dict({**own, **{k: v for k, v in start.items() if k in own and own[k].shape == v.shape}})
    if isinstance(model, ConvNet):  # two thirds of the time on a CPU, and what tensor cores want
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _image(data: Labelled) -> Tensor:
    if len(data.inputs) != 1 or len(data) == 0:
        found = f"{len(data)} rows with inputs {', '.join(data.inputs)}"
        raise DataError("training data", found, "give rows with exactly one image input")
    (array,) = data.inputs.values()
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _jittered(images: Tensor, jitter: float) -> Tensor:
    if not jitter:
        return images
    identity = torch.eye(2, 3, device=images.device)
    maps = identity + jitter * (2 * torch.rand(len(images), 2, 3).to(images.device) - 1)
    grid = nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def predict_logits(model: nn.Module, images: Tensor, batch_size: int = 1024) -> Tensor:
    """(N, C) logits in eval mode, batch by batch."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part) for part in images.split(batch_size)])  # type: ignore[no-untyped-call]
