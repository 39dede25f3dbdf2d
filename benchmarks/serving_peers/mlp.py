"""The models that every system in the serving benchmark holds: 64-128-10 perceptrons, one per seed.

An input of more than 64 numbers is first averaged to 64, so that what is large is what has to be brought, not what has
to be computed.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

SEEDS = (0, 1, 2)
NUM_FEATURES, NUM_HIDDEN, NUM_CLASSES = 64, 128, 10


class Averaged(torch.nn.Module):
    """Means of equal parts."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, 64) of (B, F)."""
        return rows.view(len(rows), NUM_FEATURES, -1).mean(-1)


def build(seed: int, features: int = NUM_FEATURES) -> torch.nn.Module:
    """Logits (B, 10) from rows (B, F), F a multiple of 64."""
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(NUM_FEATURES, NUM_HIDDEN), torch.nn.ReLU(), torch.nn.Linear(NUM_HIDDEN, NUM_CLASSES)]
    return torch.nn.Sequential(*([Averaged()] if features > NUM_FEATURES else []), *layers).eval()


class Sleepy(torch.nn.Module):
    """The same, but late every time."""

    def __init__(self, seed: int, features: int, sleep_s: float):
        super().__init__()
        self._model, self._sleep_s = build(seed, features), sleep_s

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        time.sleep(self._sleep_s)
        return self._model(rows)


def probabilities(model: torch.nn.Module, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a member contributes to the average, (B, 10)."""
    with torch.inference_mode():
        return model(torch.from_numpy(rows)).softmax(-1).numpy()


def mean(models: list[torch.nn.Module], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, 10), all members in this process."""
    return np.mean([probabilities(model, rows) for model in models], axis=0)
