"""A service whose bandit learns, without one: rows that come, whom it asks, labels that come later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.deployments.learning.online.bandit.learner import BanditLearner
from quorate.deployments.learning.online.bandit.rows import ToldRows, pulled_by, tell
from quorate.fusion import Bandit, fit_bandit, proven_price

# M members, N rows, C classes

MEMBERS, CLASSES = ("cheap", "dear", "dearest"), 5
ARMS: list[list[str]] = [[], ["dear"], ["dearest"], ["dear", "dearest"]]
Floats = NDArray[np.float64]


class Source(Protocol):
    """Where rows come from."""

    def rows(self, count: int, random: np.random.Generator) -> tuple[Tensor, NDArray[np.int64]]: ...


@dataclass(frozen=True)
class World:
    """What members are like.

    Attributes:
        sure: how sure the cheap member says to be at least; it is right so often, unless it is ``broken``.
        dear, dearest: how often these are right; as by chance where they are useless.
    """

    dear: float = 0.9
    dearest: float = 0.93
    broken: bool = False

    def rows(self, count: int, random: np.random.Generator) -> tuple[Tensor, NDArray[np.int64]]:
        """(M, N, C) and labels."""
        truth = random.integers(0, CLASSES, count)
        sure = random.beta(4, 1, count) * 0.79 + 0.2
        skills = (np.full(count, 1 / CLASSES) if self.broken else sure, np.full(count, self.dear),
                  np.full(count, self.dearest))  # fmt: skip
        said = np.empty((3, count, CLASSES))
        for member, skill in enumerate(skills):
            right = random.random(count) < skill
            top = np.where(right, truth, (truth + random.integers(1, CLASSES, count)) % CLASSES)
            mass = sure if member == 0 else np.full(count, 0.92)
            said[member] = ((1 - mass) / (CLASSES - 1))[:, None]
            said[member, np.arange(count), top] = mass
        return torch.from_numpy(said.astype(np.float32)), truth


USELESS = World(dear=1 / CLASSES, dearest=1 / CLASSES)
BROKEN = World(broken=True)


def fitted(world: World, random: np.random.Generator, explore: float = 0.05, max_loss: float = 0.02) -> Bandit:
    """As ``tune`` would: models on some rows, the price on others."""
    solve, solved = world.rows(2000, random)
    judge, judged = world.rows(2000, random)
    rule = fit_bandit(MEMBERS, ["cheap"], ARMS, solve, torch.from_numpy(solved), explore=explore)
    found = proven_price(rule, judge, torch.from_numpy(judged), max_loss=max_loss, confidence=0.95)
    return found or rule.at_price(-2.0).keeping(max_loss, 0.95)


@dataclass
class Served:
    """What came of a stream.

    Attributes:
        right: (N,) of what was answered, ``whole`` of what everybody together says.
        calls: (N,) dear members asked.
        changes: what went live.
    """

    right: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    calls: Floats
    changes: list[dict[str, Any]]
    learner: BanditLearner


def served(
    rule: Bandit, worlds: Sequence[tuple[Source, int]], random: np.random.Generator, late: int = 100,
    learns: bool = True, permuted: bool = False, at_once: int = 100, learner: BanditLearner | None = None,
    taken: list[ToldRows] | None = None,
) -> Served:  # fmt: skip
    """Answer rows of one world after the other; labels come ``late`` rows later, and what is learned goes live.

    Args:
        taken: what was learned from is added here.
    """
    learner, waiting = learner or BanditLearner("fused", rule), list[ToldRows]()
    right, whole, calls, now, live = [], [], [], 0, learner.publisher.live
    for world, count in worlds:
        for start in range(0, count, at_once):
            rows = min(at_once, count - start)
            outputs, truth = world.rows(rows, random)
            everybody = torch.ones(outputs.shape[:2], dtype=torch.bool)
            asked = live.select(outputs, everybody)
            fused = live.fuse(torch.where(asked.unsqueeze(-1), outputs, torch.nan), asked).values.numpy()
            right.append(fused.argmax(axis=1) == truth)
            whole.append(live.answers(outputs)[live.everyone].argmax(dim=1).numpy() == truth)
            calls.append(asked[1:].sum(dim=0).numpy().astype(np.float64))
            told = random.permutation(truth) if permuted else truth
            times = np.arange(now, now + rows, dtype=np.int64), np.arange(now, now + rows, dtype=np.int64) + late
            pulled = pulled_by(live, outputs, asked)
            waiting.append(tell(live, outputs, asked, pulled, told, fused, times))
            now += rows
            while learns and waiting and waiting[0].came_us[-1] < now:
                rows_told = waiting.pop(0)
                learner.take(rows_told)
                live = learner.publisher.live
                if taken is not None:
                    taken.append(rows_told)
    return Served(np.concatenate(right), np.concatenate(whole), np.concatenate(calls), learner.changes, learner)
