"""What a bandit would have earned on recorded answers, whoever gave them, before it goes live.

Of a row whose answer asked every member it is known exactly what each set of them answers. Of one that a bandit
answered, what the sets within those that it asked do: such rows count one over the chance that it asked so many.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quorate.deployments.engine.revision import Revision
from quorate.deployments.errors import RequestError, SpecError
from quorate.deployments.learning.online.bandit.learner import joined
from quorate.deployments.learning.online.bandit.rows import ToldRows, told_by
from quorate.deployments.learning.reading import Labels, Record
from quorate.fusion.errors import QuorateError
from quorate.fusion.evaluation.off_policy import doubly_robust, inverse_propensity, lower_mean
from quorate.fusion.learned.bandit import Bandit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class JudgedPolicy:
    """Of labelled rows, in accuracy; bounds hold with 95 % each.

    Attributes:
        rows: that could be judged, and ``exact`` those of them of which every set's answer is known.
        accuracy: of the bandit (doubly robust), between ``least`` and ``most``.
        answered: of what was answered.
        gain: of the bandit over that, at least ``least_gain``.
        asks, asked: members a row, by the bandit and by what answered.
        left_out: labelled rows that could not be judged, by why not.
    """

    rows: int
    exact: int
    accuracy: float
    least: float
    most: float
    answered: float
    gain: float
    least_gain: float
    asks: float
    asked: float
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Sentences."""
        said = (
            f"bandit: accuracy {self.accuracy:.4f} ({self.least:.4f} to {self.most:.4f}) on {self.rows} labelled rows, "
            f"of {self.exact} known exactly; {self.answered:.4f} was answered, a gain of {self.gain:+.4f}, at least "
            f"{self.least_gain:+.4f}"
        )
        asks = f"it asks {self.asks:.2f} members a row, {self.asked:.2f} were asked"
        return [said, asks, *(f"{count} labelled rows not judged: {why}" for why, count in self.left_out.items())]


def judge_policy(record: Record, labels: Labels, policy: Revision) -> JudgedPolicy | None:
    """Judge a revision whose rule is a bandit; None of another rule.

    Args:
        labels: of the record.

    Raises:
        RequestError: no labelled row can be judged.
    """
    rule = policy.graph.output.rule
    if not isinstance(rule, Bandit):
        return None
    parts, left_out = list[ToldRows](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="q") as scratch:
        writers: dict[str, Revision | None] = {}
        for rows in record.rows():
            found = labels.of(rows)
            count = sum(label is not None for label in found)
            if not count:
                continue
            try:
                writer = _writer(record, rows.about.revision, Path(scratch), writers)
                parts.append(told_by(rows, found, labels.came_us(rows), policy, writer, left_out))
            except (QuorateError, SpecError) as error:
                left_out[str(error)] += count
    told = joined(parts)
    if told is None:
        why = next(iter(left_out), "no row has a label")
        raise RequestError(f"nothing tells what the bandit would have earned: {why}")
    return _judged(rule, told, dict(left_out))


def _writer(record: Record, name: str, scratch: Path, known: dict[str, Revision | None]) -> Revision:
    if name not in known:
        try:
            known[name] = record.revision(name, scratch)
        except QuorateError:
            known[name] = None
    found = known[name]
    if found is None:
        raise RequestError(f"revision {name}, which chose whom to ask, is not beside the record")
    return found


def _judged(rule: Bandit, told: ToldRows, left_out: dict[str, int]) -> JudgedPolicy:
    order = np.random.default_rng(0).permutation(len(told))
    promised = rule.promises(torch.from_numpy(told.context))
    target = rule.explored(rule.choices(promised)).numpy()
    seen, known, rewards, answered = told.chances, told.known, told.rewards, told.answered
    earned = inverse_propensity(target, seen, known, rewards)[order]
    missed = inverse_propensity(target, seen, known, 1 - rewards)[order]
    accuracy = float(doubly_robust(target, seen, known, rewards, promised.clamp(0, 1).numpy()).mean())
    asks = target @ np.array([len(rule.first) + len(arm) for arm in rule.arms], np.float64)
    delta = 1 - CONFIDENCE
    return JudgedPolicy(
        len(told), int(known.all(axis=1).sum()), accuracy,
        lower_mean(earned, delta), 1 - lower_mean(missed, delta), float(answered.mean()),
        accuracy - float(answered.mean()), lower_mean(earned - answered[order] + 1, delta) - 1,
        float(asks.mean()), float(told.asked.mean()), left_out,
    )  # fmt: skip
