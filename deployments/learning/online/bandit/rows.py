"""What recorded rows tell of the sets of members that a bandit chooses among: whose answer is known, and how surely.

Of a row whose answer asked every member it is known exactly what each set answers. Of one that a bandit answered, what
the sets within those that it asked do: the chance that it asked so many follows from its revision and from what the
first members said.
"""

# M members, R rows, N of them told of, K sets, W sets that may have been asked

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.deployments.engine.revision import Revision
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.labels import Label, true_arrays
from quorate.deployments.learning.reading import RecordedRows
from quorate.deployments.transport.row_state import RowState
from quorate.fusion.learned.bandit import Bandit
from quorate.fusion.registry import RULES

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Pulled = Sequence[tuple[Floats, frozenset[str]]]


@dataclass(frozen=True)
class ToldRows:
    """Labelled rows of which something is known.

    Attributes:
        context: (N, D) what arms are chosen by.
        seen: (N, K, K) the chance that of two sets both answers would become known; of one its own with itself.
        known: (N, K) whether a set's answer is.
        rewards: (N, K) 1 where it is right, where known.
        alone: (N,) 1 where the first members by themselves are right: known of every row.
        answered: (N,) 1 where what was answered is right.
        asked: (N,) how many members were.
        alone_probs: (N,) what the first members by themselves give to what is true, and ``whole_probs`` (N,) what all
            together do, where that is known.
        truth: (N,) what is true, by the class's number.
        answered_us, came_us: (N,) when, and when the label came.
    """

    context: Floats
    seen: Floats
    known: Flags
    rewards: Floats
    alone: Floats
    answered: Floats
    asked: Floats
    alone_probs: Floats
    whole_probs: Floats
    truth: NDArray[np.int64]
    answered_us: NDArray[np.int64]
    came_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.alone)

    @property
    def chances(self) -> Floats:
        """(N, K) that each set's answer would become known."""
        return np.asarray(np.einsum("nkk->nk", self.seen))

    def part(self, rows: slice | NDArray[np.intp] | Flags) -> ToldRows:
        """Some of them."""
        return ToldRows(*(getattr(self, one.name)[rows] for one in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[ToldRows]) -> ToldRows:
        """All of several, in the order in which labels came."""
        columns = {one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)}
        return cls(**columns).part(np.argsort(columns["came_us"], kind="stable"))


def told_by(
    rows: RecordedRows, labels: Sequence[Label | None], came_us: NDArray[np.int64], policy: Revision, writer: Revision,
    left_out: Counter[str],
) -> ToldRows:  # fmt: skip
    """What rows tell of the sets of a revision's bandit.

    Args:
        labels: each row's, or None.
        came_us: (R,) when these came.
        writer: the revision that answered them.
        left_out: counts rows that tell nothing, by why.

    Raises:
        RequestError: no row of these can tell anything.
    """
    about, rule = rows.about, policy.graph.output.rule
    assert isinstance(rule, Bandit)
    _check(rows, policy)
    places = np.array([at for at, label in enumerate(labels) if label is not None], np.intp)
    states = rows.states[:, places]
    failed = ((states != RowState.OK) & (states != RowState.UNASKED)).any(axis=0)
    order = [about.members.index(name) for name in policy.asked]
    first = [about.members.index(name) for name in rule.first]
    failed |= (states[first] != RowState.OK).any(axis=0)
    if failed.any():
        left_out["a member that was asked did not answer"] += int(failed.sum())
    places, states = places[~failed], states[:, ~failed]
    given, there = torch.from_numpy(rows.outputs[:, places]), torch.from_numpy(states == RowState.OK)
    pulled = _pulled(writer, about.members, given, there)
    chosen = _chosen(pulled, about.members, there.numpy())
    if not chosen.all():
        left_out["its request named members, or load left some out"] += int((~chosen).sum())
        places, given, there = places[chosen], given[:, chosen], there[:, chosen]
        pulled = [(chance[chosen], who) for chance, who in pulled]
    named = [label for at in places.tolist() if (label := labels[at]) is not None]
    truth = np.asarray(true_arrays(about.classes, about.task, named), np.int64)
    times = rows.times_us[places], np.maximum(came_us[places], rows.times_us[places] + 1)  # clocks of two machines
    return tell(rule, _as_read(policy, given[order]), there[order], pulled, truth, rows.fused[places], times)


def tell(
    rule: Bandit, read: torch.Tensor, there: torch.Tensor, pulled: Pulled, truth: NDArray[np.int64],
    fused: NDArray[np.float32], times_us: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> ToldRows:  # fmt: skip
    """What rows of which all first members, and all others that were asked, answered tell of a bandit's sets.

    Args:
        read: (M, N, C) what members gave, as the rule reads it; anything where they were not asked.
        there: (M, N) bool, who was.
        pulled: sets of members that may have been, and (N,) the chance of each.
        truth: (N,) classes, by number.
        fused: (N, C) what was answered.
        times_us: (N,) when rows were answered, and when labels came.
    """
    read = torch.nan_to_num(read)
    sets = [frozenset((*rule.first, *arm)) for arm in rule.arms]
    asked = dict(zip(rule.members, there.numpy(), strict=True))
    answers, alone = rule.answers(read), rule.alone(read)
    right, places = answers.argmax(dim=2).T.numpy() == truth[:, None], torch.arange(len(truth))
    return ToldRows(
        rule.context(read, there)[0].numpy(), _seen(pulled, sets),
        np.stack([np.logical_and.reduce([asked[name] for name in wanted]) for wanted in sets], axis=1),
        right.astype(np.float64), (alone.argmax(dim=1).numpy() == truth).astype(np.float64),
        (fused.argmax(axis=1) == truth).astype(np.float64), there.sum(dim=0).numpy().astype(np.float64),
        alone[places, truth].numpy(), answers[rule.everyone, places, truth].numpy(), truth, *times_us,
    )  # fmt: skip


def pulled_by(rule: Bandit, read: torch.Tensor, there: torch.Tensor) -> Pulled:
    """The sets of members that a bandit may have asked of rows."""
    chances = rule.chances(read, there).numpy()
    return [(chances[:, at], frozenset((*rule.first, *arm))) for at, arm in enumerate(rule.arms)]


def _check(rows: RecordedRows, policy: Revision) -> None:
    about = rows.about
    absent = [name for name in policy.asked if name not in about.members]
    if absent or about.task != "classification":
        found = f"{', '.join(absent)} is not recorded" if absent else f"answers are of the task {about.task}"
        raise RequestError(found)
    if about.classes != (policy.graph.spec.classes or ()):
        raise RequestError(f"revision {about.revision} had other classes, or the same in another order")


def _as_read(revision: Revision, outputs: torch.Tensor) -> torch.Tensor:
    """(M, N, C) members' outputs, in the order of the revision's rule, calibrated as that reads them."""
    return revision.graph.output.read(np.ascontiguousarray(outputs.numpy()))


def _pulled(writer: Revision, members: Sequence[str], given: torch.Tensor, there: torch.Tensor) -> Pulled:
    """The sets of members that whoever answered may have asked, and (N,) the chance of each in each row."""
    rule = writer.graph.output.rule
    if isinstance(rule, Bandit):
        order = [members.index(name) for name in writer.asked]
        return pulled_by(rule, _as_read(writer, given[order]), there[order])
    if RULES[writer.graph.output.fusion.rule].steered:
        raise RequestError(f"a {writer.graph.output.fusion.rule} chose whom to ask, and draws nothing")
    return [(np.ones(given.shape[1]), frozenset(writer.asked))]


def _chosen(pulled: Pulled, members: Sequence[str], there: Flags) -> Flags:
    """(N,) rows of which those were asked whom who answered may have chosen."""
    found = np.zeros(there.shape[1], np.bool_)
    for chance, who in pulled:
        asked = np.array([name in who for name in members])
        found |= (chance > 0) & (there == asked[:, None]).all(axis=0)
    return found


def _seen(pulled: Pulled, sets: Sequence[frozenset[str]]) -> Floats:
    """(N, K, K)"""
    chances = np.stack([chance for chance, _ in pulled], axis=1)
    within = np.array([[[one | other <= who for _, who in pulled] for other in sets] for one in sets], np.float64)
    return np.asarray(np.einsum("nw,klw->nkl", chances, within))
