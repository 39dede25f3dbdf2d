"""What a bandit would have earned on recorded answers, whoever gave them, before it goes live.

Of a row whose answer asked every member it is known exactly what each set of them answers. Of one that a bandit
answered, what the sets within those that it asked do: such rows count one over the chance that it asked so many.
"""

# M members, R rows, K sets

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.engine.revision import Revision
from quorate.deployments.errors import RequestError, SpecError
from quorate.deployments.learning.labels import true_arrays
from quorate.deployments.learning.reading import Labels, Record, RecordedRows
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.errors import QuorateError
from quorate.fusion.evaluation.off_policy import doubly_robust, inverse_propensity, lower_mean
from quorate.fusion.learned.bandit import Bandit
from quorate.fusion.registry import RULES

CONFIDENCE = 0.95
Floats = NDArray[np.float64]


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


@dataclass(frozen=True)
class _Part:
    """Rows of one file: chances of the bandit, chances that an arm's answer is known, and whether it is; rewards."""

    target: Floats
    seen: Floats
    known: NDArray[np.bool_]
    rewards: Floats
    promised: Floats
    answered: Floats
    asks: Floats
    asked: Floats


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
    parts, left_out = list[_Part](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="q") as scratch:
        writers: dict[str, Revision | None] = {}
        for rows in record.rows():
            places = np.array([at for at, label in enumerate(labels.of(rows)) if label is not None], np.intp)
            if not len(places):
                continue
            try:
                writer = _writer(record, rows.about.revision, Path(scratch), writers)
                parts.append(_part(rows, places, labels, policy, rule, writer, left_out))
            except (QuorateError, SpecError) as error:
                left_out[str(error)] += len(places)
    if not sum(len(part.answered) for part in parts):
        why = next(iter(left_out), "no row has a label")
        raise RequestError(f"nothing tells what the bandit would have earned: {why}")
    joined = _Part(*(np.concatenate(column) for column in zip(*(vars(part).values() for part in parts), strict=True)))
    return _judged(joined, dict(left_out))


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


def _part(
    rows: RecordedRows, places: NDArray[np.intp], labels: Labels, policy: Revision, rule: Bandit, writer: Revision,
    left_out: Counter[str],
) -> _Part:  # fmt: skip
    about = rows.about
    absent = [name for name in policy.asked if name not in about.members]
    if absent or about.task != "classification":
        found = f"{', '.join(absent)} is not recorded" if absent else f"answers are of the task {about.task}"
        raise RequestError(found)
    if about.classes != (policy.spec.classes or ()):
        raise RequestError(f"revision {about.revision} had other classes, or the same in another order")
    states, order = rows.states[:, places], [about.members.index(name) for name in policy.asked]
    failed = ((states != RowState.OK) & (states != RowState.UNASKED)).any(axis=0)
    if failed.any():
        left_out["a member that was asked did not answer"] += int(failed.sum())
    places, states = places[~failed], states[:, ~failed]
    # Chances are those of the members as their rules read them: of what was recorded.
    given, there = torch.from_numpy(rows.outputs[:, places]), torch.from_numpy(states == RowState.OK)
    pulled = _chances(writer, given, there)
    read, present = given[order], there[order]
    sets = [frozenset((*rule.first, *arm)) for arm in rule.arms]
    seen = np.stack(
        [np.sum([chance for chance, who in pulled if who >= wanted], axis=0) * np.ones(len(places)) for wanted in sets],
        axis=1,
    )
    asked = {name: (states[at] == RowState.OK) for at, name in enumerate(about.members)}
    known = np.stack([np.logical_and.reduce([asked[name] for name in wanted]) for wanted in sets], axis=1)
    given_labels = labels.of(rows)
    named = [label for at in places.tolist() if (label := given_labels[at]) is not None]
    truth = torch.from_numpy(true_arrays(about.classes, about.task, named))
    right = (rule.answers(torch.nan_to_num(read)).argmax(dim=2) == truth).double().T.numpy()
    target = rule.chances(read, present).numpy()
    promised = rule.promises(read, present).clamp(0, 1).numpy()
    sizes = np.array([len(wanted) for wanted in sets], np.float64)
    answered = (rows.fused[places].argmax(axis=1) == truth.numpy()).astype(np.float64)
    asked_of = (states == RowState.OK).sum(axis=0).astype(np.float64)
    return _Part(target, seen, known, right, promised, answered, target @ sizes, asked_of)


def _chances(
    writer: Revision, given: torch.Tensor, there: torch.Tensor
) -> list[tuple[Floats, frozenset[str]]]:  # fmt: skip
    """The sets of members that whoever answered may have asked, and the chance of each in each row."""
    rule, rows = writer.graph.output.rule, given.shape[1]
    if isinstance(rule, Bandit):
        chances = rule.chances(given, there).numpy()
        return [(chances[:, at], frozenset((*rule.first, *arm))) for at, arm in enumerate(rule.arms)]
    if RULES[writer.graph.output.fusion.rule].steered:
        raise RequestError(f"a {writer.graph.output.fusion.rule} chose whom to ask, and draws nothing")
    return [(np.ones(rows), frozenset(writer.asked))]


def _judged(part: _Part, left_out: dict[str, int]) -> JudgedPolicy:
    order = np.random.default_rng(0).permutation(len(part.answered))
    earned = inverse_propensity(part.target, part.seen, part.known, part.rewards)[order]
    missed = inverse_propensity(part.target, part.seen, part.known, 1 - part.rewards)[order]
    robust, answered = doubly_robust(part.target, part.seen, part.known, part.rewards, part.promised), part.answered
    delta = 1 - CONFIDENCE
    accuracy = float(robust.mean())
    return JudgedPolicy(
        len(answered), int(part.known.all(axis=1).sum()), accuracy,
        lower_mean(earned, delta), 1 - lower_mean(missed, delta), float(answered.mean()),
        accuracy - float(answered.mean()), lower_mean(earned - answered[order] + 1, delta) - 1,
        float(part.asks.mean()), float(part.asked.mean()), left_out,
    )  # fmt: skip
