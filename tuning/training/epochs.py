"""A training epoch by epoch: AdamW, early stopping on a validation loss, same seed same bits on one CPU.

It can be saved after any epoch and continued: the same bits.
"""

# B batch, N rows

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quorate.tuning.errors import TuningError


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
    """What one pass over the data gave; log-losses in nats per row, of values mean squared errors."""

    number: int
    train_log_loss: float
    validation_log_loss: float
    validation_accuracy: float

    def is_better_than(self, best: Epoch | None) -> bool:
        """Whether its validation loss is lower; one that is not finite is no better than none."""
        loss = self.validation_log_loss
        return math.isfinite(loss) and (best is None or loss < best.validation_log_loss)


class EpochRun(ABC):
    """Passes over training rows, written down after any of them and taken up again: the same bits.

    Attributes:
        model: the network as it is now.
        history: the epochs so far.
        best: the epoch with the lowest validation loss; None while none was finite.
    """

    def __init__(self, make_model: Callable[[], nn.Module], rows: int, training: Training):
        """Args:
        make_model: gives the network; called with PyTorch's random state at the seed.
        rows: N.
        training: the settings.
        """
        self.training, self._rows = training, rows
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)
            self.model = make_model().to(training.device)
            self._random = _random_state(training.device)
        groups = self._parameter_groups()
        self._optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=training.weight_decay)
        steps = max(3, training.epochs * math.ceil(rows / training.batch_size))
        warm_up = min(1.0, max(0.1, 2 / steps))  # OneCycleLR divides by the warm-up's steps less one
        peaks = [group["lr"] for group in self._optimizer.param_groups]
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, peaks, total_steps=steps, pct_start=warm_up
        )
        self._order = torch.Generator().manual_seed(training.seed)
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        self._best_state: dict[str, Tensor] = {}

    @abstractmethod
    def _loss_of(self, index: Tensor) -> Tensor:
        """Mean loss of the rows numbered ``index`` (B,), the network in training mode."""

    @abstractmethod
    def _judged(self) -> tuple[float, float]:
        """Validation loss and accuracy."""

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, and at which peak rate where it is another than ``learning_rate``."""
        return [{"params": [parameter for parameter in self.model.parameters() if parameter.requires_grad]}]

    def _before_step(self) -> None:
        """With gradients at hand."""
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or ``patience`` of them without a better one."""
        done = len(self.history)
        return done >= self.training.epochs or done - (self.best.number if self.best else 0) >= self.training.patience

    def step(self) -> Epoch:
        """Train one epoch and judge it."""
        with torch.random.fork_rng():
            _set_random_state(self._random, self.training.device)
            loss = self._train_epoch()
            self._random = _random_state(self.training.device)
        epoch = Epoch(len(self.history) + 1, loss, *self._judged())
        self.history.append(epoch)
        if epoch.is_better_than(self.best):
            self.best, self._best_state = epoch, copy.deepcopy(self.model.state_dict())
        return epoch

    def best_model(self) -> tuple[nn.Module, Epoch]:
        """The network of the best epoch so far, in eval mode on the CPU, and that epoch.

        Raises:
            TuningError: no epoch's loss was finite.
        """
        if self.best is None:
            found = f"no finite log-loss in {len(self.history)} epochs"
            raise TuningError("training", found, "lower the learning rate")
        model = copy.deepcopy(self.model)
        model.load_state_dict(self._best_state)
        return model.eval().cpu(), self.best

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that changes from epoch to epoch: tensors by name, and the rest as JSON would hold it."""
        optimizer, schedule = self._optimizer.state_dict(), self._schedule.state_dict()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self._best_state.items()}
        for index, moments in optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        tensors |= {f"random.{name}": value for name, value in self._random.items()}
        tensors["random.order"] = self._order.get_state()
        words = {
            "groups": optimizer["param_groups"],
            "schedule": {name: value for name, value in schedule.items() if name in ("last_epoch", "_step_count")},
            "history": [asdict(epoch) for epoch in self.history],
            "best": None if self.best is None else self.best.number,
        }
        return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, words

    def restore(self, tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> None:
        """Go on from what ``state`` of a run with the same arguments gave."""
        self.model.load_state_dict(_below(tensors, "model."))
        self._best_state = _below(tensors, "best.")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer.").items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        self._optimizer.load_state_dict({"state": moments, "param_groups": list(words["groups"])})
        self._schedule.load_state_dict(dict(words["schedule"]))
        self._random = _below(tensors, "random.")
        self._order.set_state(self._random.pop("order"))
        self.history = [Epoch(**epoch) for epoch in words["history"]]
        self.best = None if words["best"] is None else self.history[words["best"] - 1]

    def _train_epoch(self) -> float:
        """Mean training loss; the model changes in place."""
        self.model.train()
        order, total = torch.randperm(self._rows, generator=self._order), 0.0
        batches = torch.split(order.to(self.training.device), self.training.batch_size)
        if len(batches) > 1 and len(batches[-1]) == 1:  # of which batch norm knows no deviation
            batches = batches[:-1]
        for index in batches:
            loss = self._loss_of(index)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._before_step()
            self._optimizer.step()
            self._schedule.step()
            total += loss.item() * len(index)
        return total / self._rows


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _random_state(device: str) -> dict[str, Tensor]:
    """State of the generators that dropout and jitter draw from."""
    state = {"cpu": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: Mapping[str, Tensor], device: str) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
