"""Small networks trained on scikit-learn's digits, together and apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from quorate.fusion import reestimate_batchnorm
from tests.fusion.support.merge_methods import State

TRAIN, TEST = slice(0, 1200), slice(1200, None)


@lru_cache
def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    hidden = (nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    return nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), *hidden, nn.Dropout(0.2), nn.Linear(64, 10))


def trained(model: nn.Sequential, seed: int, steps: int) -> nn.Sequential:
    images, labels = digits()
    torch.manual_seed(seed)  # dropout
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        rows = torch.randint(0, TRAIN.stop, (64,))
        optimizer.zero_grad()
        cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
    return model.eval()


@lru_cache
def family() -> tuple[nn.Sequential, dict[str, State]]:
    parent = trained(network(0), 0, 150)
    children = {f"child{seed}": trained(copy.deepcopy(parent), seed, 150).state_dict() for seed in (1, 2)}
    return parent, children


def accuracy(state: Mapping[str, Tensor], build: Callable[[int], nn.Sequential] = network) -> float:
    images, labels = digits()
    model = build(0)
    model.load_state_dict(state)
    reestimate_batchnorm(model, images[TRAIN].split(200))
    with torch.no_grad():
        return float((model.eval()(images[TEST]).argmax(1) == labels[TEST]).float().mean())
