"""Train a member: AdamW, early stopping on validation log-loss, same seed same bits on one CPU.

Entry points: ``train(config, splits.train, splits.validation, Training(seed=0), console=None) -> Trained`` and
``save_weights(trained.model, path) -> digest``.
"""

# B batch, N rows, C classes

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quorate.deployments.spec_file import file_digest
from quorate.fusion.errors import DataError, TuningError
from quorate.tuning.architectures import build
from quorate.tuning.datasets import Labelled

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Training:
    """How to train; the learning rate falls from its peak to zero on one cosine over ``epochs``.

    Attributes:
        patience: epochs without a lower validation log-loss before training stops.
        jitter: each training image goes through a random affine map whose entries differ from the identity's by up to
            this much, in units of half the image: a little shift, turn, shear and zoom.
    """

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    patience: int = 10
    jitter: float = 0.0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.patience) < 1 or self.learning_rate <= 0 or self.jitter < 0:
            raise TuningError("training", repr(self), "give at least one epoch, row, patience, and a rate above 0")


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data gave; log-losses in nats per row."""

    number: int
    train_log_loss: float
    validation_log_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class Trained:
    """A network in the state of its best epoch, in eval mode on the CPU."""

    model: nn.Module
    best: Epoch
    history: tuple[Epoch, ...]


def train(
    config: Mapping[str, Any],
    rows: Labelled,
    validation: Labelled,
    training: Training | None = None,
    *,
    console: Console | None = None,
    on_epoch: Callable[[Epoch, nn.Module], bool] | None = None,
) -> Trained:
    """Train the network that ``build(**config)`` makes.

    Args:
        config: as in a spec; image and classes may be left out, the data has them.
        rows: training rows with one input, (N, channels, height, width).
        validation: rows that decide when to stop and which epoch is kept.
        training: seed and rates.
        console: shows a progress bar if it is a terminal.
        on_epoch: called after each epoch; True stops the training (a scheduler's early stop).

    Raises:
        ArchitectureError: the config cannot be built.
        DataError: not exactly one input.
        TuningError: every epoch's validation log-loss was NaN or infinite.
    """
    training = training or Training()
    images, held_out = _image(rows).to(training.device), _image(validation).to(training.device)
    labels = torch.from_numpy(rows.labels).to(training.device)
    full = {"image": list(images.shape[1:]), "classes": len(rows.classes), **config}
    with torch.random.fork_rng(), _progress(console, str(full.get("family", "cnn")), training.epochs) as advance:
        torch.manual_seed(training.seed)
        model = build(**full).to(training.device)
        history: list[Epoch] = []
        best_state: dict[str, Tensor] = {}
        best: Epoch | None = None
        for number, loss in enumerate(_epochs(model, images, labels, training), start=1):
            epoch = _judge(model, held_out, validation.labels, number, loss)
            history.append(epoch)
            advance(epoch)
            if math.isfinite(epoch.validation_log_loss) and (
                best is None or epoch.validation_log_loss < best.validation_log_loss
            ):
                best, best_state = epoch, copy.deepcopy(model.state_dict())
            stop = on_epoch is not None and on_epoch(epoch, model)
            if stop or number - (best.number if best else 0) >= training.patience:
                break
    if best is None:
        raise TuningError("training", f"no finite log-loss in {len(history)} epochs", "lower the learning rate")
    model.load_state_dict(best_state)
    return Trained(model.eval().cpu(), best, tuple(history))


def _image(data: Labelled) -> Tensor:
    if len(data.inputs) != 1 or len(data) == 0:
        found = f"{len(data)} rows with inputs {', '.join(data.inputs)}"
        raise DataError("training data", found, "give rows with exactly one image input")
    (array,) = data.inputs.values()
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _epochs(model: nn.Module, images: Tensor, labels: Tensor, training: Training) -> Iterator[float]:
    """Mean training log-loss of each epoch; the model changes in place."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    batches = math.ceil(len(images) / training.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, epochs=training.epochs, steps_per_epoch=batches, pct_start=0.1
    )
    order = torch.Generator().manual_seed(training.seed)
    for _ in range(training.epochs):
        model.train()
        total = 0.0
        for index in torch.randperm(len(images), generator=order).to(images.device).split(training.batch_size):  # type: ignore[no-untyped-call]
            loss = nn.functional.cross_entropy(model(_jittered(images[index], training.jitter)), labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        yield total / len(images)


def _jittered(images: Tensor, jitter: float) -> Tensor:
    if not jitter:
        return images
    identity = torch.eye(2, 3, device=images.device)
    maps = identity + jitter * (2 * torch.rand(len(images), 2, 3).to(images.device) - 1)
    grid = nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def _judge(model: nn.Module, images: Tensor, labels: NDArray[np.int64], number: int, train_loss: float) -> Epoch:
    logits = predict_logits(model, images).cpu()
    truth = torch.from_numpy(labels)
    loss = nn.functional.cross_entropy(logits, truth).item()
    return Epoch(number, train_loss, loss, (logits.argmax(dim=1) == truth).float().mean().item())


def predict_logits(model: nn.Module, images: Tensor, batch_size: int = 1024) -> Tensor:
    """(N, C) logits in eval mode, batch by batch."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part) for part in images.split(batch_size)])  # type: ignore[no-untyped-call]


def save_weights(model: nn.Module, path: str | Path) -> str:
    """Write the state as safetensors; returns the ``digest`` that a spec names."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return file_digest(path)


@contextmanager
def _progress(console: Console | None, name: str, epochs: int) -> Iterator[Callable[[Epoch], None]]:
    if console is None or not console.is_terminal or console.quiet:
        yield lambda epoch: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(name, total=epochs)

        def advance(epoch: Epoch) -> None:
            bar.update(task, completed=epoch.number, description=f"{name} log-loss {epoch.validation_log_loss:.4f}")

        yield advance
