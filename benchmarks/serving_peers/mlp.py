"""The models that every system in the serving benchmark holds: 64-128-10 perceptrons, one per seed."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

SEEDS = (0, 1, 2)
NUM_FEATURES, NUM_CLASSES = 64, 10


def build(seed: int) -> torch.nn.Module:
    """Logits (B, 10) from rows (B, 64)."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(NUM_FEATURES, 128), torch.nn.ReLU(), torch.nn.Linear(128, NUM_CLASSES)
    ).eval()


class Sleepy(torch.nn.Module):
    """The same, but late every time."""

    def __init__(self, seed: int, sleep_s: float):
        super().__init__()
        self._model, self._sleep_s = build(seed), sleep_s

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        time.sleep(self._sleep_s)
        return self._model(rows)


def probabilities(model: torch.nn.Module, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a member contributes to the average, (B, 10)."""
    with torch.inference_mode():
        return model(torch.from_numpy(rows)).softmax(-1).numpy()
