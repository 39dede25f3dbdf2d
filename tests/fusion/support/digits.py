"""Real predictions to fuse: scikit-learn's digits, members that see different parts of the image."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import Tensor

# M members, N rows, C classes

VIEWS = {"top": slice(0, 32), "bottom": slice(32, 64), "middle": slice(16, 48)}
MEMBERS = list(VIEWS)
# Members learn on the first rows, rules on the next, and the last judge.
MEMBER_ROWS, RULE_ROWS, TEST_ROWS = slice(0, 500), slice(500, 1200), slice(1200, 1797)


@lru_cache
def images() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    return pixels[shuffled] / 16, labels[shuffled]


@lru_cache
def members() -> dict[str, Pipeline]:
    pixels, labels = images()
    return {
        name: make_pipeline(
            FunctionTransformer(np.take, kw_args={"indices": np.arange(64)[view], "axis": 1}),
            LogisticRegression(max_iter=1000),
        ).fit(pixels[MEMBER_ROWS], labels[MEMBER_ROWS])
        for name, view in VIEWS.items()
    }


@lru_cache
def predictions(rows: str) -> tuple[Tensor, Tensor, Tensor]:
    """(M, N, C) probabilities, (N,) labels and (N, 64) pixels of the ``rule`` or the ``test`` rows."""
    pixels, labels = images()
    cut = RULE_ROWS if rows == "rule" else TEST_ROWS
    outputs = np.stack([member.predict_proba(pixels[cut]) for member in members().values()])
    return torch.tensor(outputs, dtype=torch.float32), torch.tensor(labels[cut]), torch.tensor(pixels[cut])


def log_loss(values: Tensor, labels: Tensor) -> float:
    return float(-values.gather(1, labels.unsqueeze(1)).clamp(min=1e-12).log().mean())


def accuracy(values: Tensor, labels: Tensor) -> float:
    return float((values.argmax(dim=1) == labels).float().mean())
