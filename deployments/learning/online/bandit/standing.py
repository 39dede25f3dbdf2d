"""How a policy that learns stands, over the latest labels and through time."""

# N rows, K sets

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.learning.online.bandit.deciding import PolicyPublisher
from quorate.deployments.learning.online.bandit.models import REMEMBERED
from quorate.deployments.learning.online.bandit.rows import ToldRows
from quorate.deployments.rollout.confidence_sequence import mean_within
from quorate.fusion.evaluation.off_policy import doubly_robust

Floats = NDArray[np.float64]
POINTS = 100
CONFIDENCE = 0.95
_PLACES = 5
# What is averaged of each row.
NUMBERS = ("accuracy", "asked", "everyone", "learned", "learned_asks")
# And of those since what is live is live, with an interval.
PAIRED = ("gain", "loss")


class PolicyStanding:
    """Means over what is remembered, each label counting less with those that come after; and these through time."""

    def __init__(self, remembered: float = REMEMBERED):
        self._kept = 1 - 1 / remembered
        self._sums, self._weight = np.zeros(len(NUMBERS)), 0.0
        self._labels, self._every = 0, 1
        self._points: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Another policy is live: what is compared with it begins anew."""
        self._paired, self._squares, self._count = np.zeros(len(PAIRED)), np.zeros(len(PAIRED)), 0

    def add(self, rows: ToldRows, promised: Floats, publisher: PolicyPublisher) -> None:
        """Take rows.

        Args:
            promised: (N, K) by the models before these.
        """
        if not len(rows):
            return
        live = publisher.live
        costs, sizes = live.arm_costs.numpy(), np.array([len(arm) for arm in live.arms], float)
        chosen = {
            "live": publisher.chosen(live, rows),
            "learned": (promised - publisher.price * costs).argmax(axis=1),
            "everyone": np.full(len(rows), live.everyone),
        }
        policies = {name: live.explored(torch.from_numpy(arms)).numpy() for name, arms in chosen.items()}
        clipped = promised.clip(0, 1)
        earned = {
            name: doubly_robust(chances, rows.chances, rows.known, rows.rewards, clipped)
            for name, chances in policies.items()
        }
        asks = len(live.first) + policies["learned"] @ sizes
        numbers = [rows.answered, rows.asked, earned["everyone"], earned["learned"], asks]
        count = len(rows)
        ages = self._kept ** np.arange(count - 1, -1, -1.0)
        self._sums = self._kept**count * self._sums + np.stack(numbers) @ ages
        self._weight = self._kept**count * self._weight + float(ages.sum())
        saved = publisher.price * ((policies["live"] - policies["learned"]) @ costs)
        paired = np.stack([earned["learned"] - earned["live"] + saved, earned["everyone"] - earned["live"]])
        paired = paired[:, publisher.is_fresh(rows)]
        self._paired += paired.sum(axis=1)
        self._squares += (paired**2).sum(axis=1)
        self._count += paired.shape[1]
        self._note(count, int(rows.came_us[-1]))

    def means(self) -> dict[str, float]:
        """By name."""
        found = self._sums / max(self._weight, 1e-12)
        return dict(zip(NUMBERS, found.round(_PLACES).tolist(), strict=True))

    def paired(self) -> dict[str, list[float] | None]:
        """What the learned policy earns over the live one, and by how much that is less often right than if everybody
        were asked: mean, least and most, at all looks but for one in twenty; None of too few rows.
        """
        if self._count < 2:
            return dict.fromkeys(PAIRED)
        means = self._paired / self._count
        spread = np.sqrt(np.maximum(self._squares / self._count - means**2, 0.0))
        within = [mean_within(float(one), self._count, 1 - CONFIDENCE) for one in spread]
        return {
            name: [round(float(one), _PLACES) for one in (mean, mean - far, mean + far)]
            for name, mean, far in zip(PAIRED, means, within, strict=True)
        }

    def points(self) -> list[dict[str, Any]]:
        """Means at equal distances in labels, in JSON's types; now as the last."""
        missing = bool(self._last) and (not self._points or self._points[-1]["labels"] < self._labels)
        return [*self._points, self._last] if missing else self._points

    def _note(self, count: int, time_us: int) -> None:
        before, self._labels = self._labels, self._labels + count
        self._last = {"labels": self._labels, "time_us": time_us, **self.means()}
        while self._labels // self._every >= POINTS:
            self._every *= 2
            self._points = [one for at, one in enumerate(self._points) if at % 2]
        if self._labels // self._every > before // self._every:
            self._points.append(self._last)
