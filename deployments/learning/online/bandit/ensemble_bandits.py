"""The bandits of an ensemble as they learn: each output's, from the labelled rows that any revision answered."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.online.bandit.deciding import PolicyWish
from quorate.deployments.learning.online.bandit.learner import BanditLearner, joined
from quorate.deployments.learning.online.bandit.rows import ToldRows, told_by
from quorate.deployments.learning.online.state import OnlineState, Publication
from quorate.deployments.learning.reading import RecordedRows
from quorate.deployments.spec.checks.check_online import why_no_bandit_learns
from quorate.fusion.learned.bandit import Bandit

# So many revisions that answered rows are held; each that goes live is another.
_WRITERS = 16
# The revision of a name, with all its outputs; raises a QuorateError where it is not to be had.
WriterOf = Callable[[str], Revision]


class EnsembleBandits:
    """Those that learn; none where no output has one.

    Attributes:
        left_out: labelled rows that tell nothing, by why.
    """

    def __init__(
        self, live: Revision, deployed: Revision, state: OnlineState, writer_of: WriterOf, *, at_once: bool = True
    ):
        """Args:
        deployed: what somebody deployed; it may be what is live.
        at_once: nothing is published: it is told when it would be.
        """
        self._views, self._writer_of = live.by_output, writer_of
        self._writers: dict[str, Mapping[str, Revision]] = {}
        self._told: dict[str, list[ToldRows]] = defaultdict(list)
        self._learners: dict[str, BanditLearner] = {}
        self._publishing: tuple[str, PolicyWish] | None = None
        self.left_out = Counter[str]()
        pinned = deployed.by_output
        for output, view in self._views.items():
            rule, before = view.graph.output.rule, pinned[output].graph.output.rule
            if isinstance(rule, Bandit) and isinstance(before, Bandit) and not why_no_bandit_learns(before.options):
                changes = [] if at_once else state.policies.get(output, [])
                since_us = changes[-1]["time_us"] if changes else state.since_us
                self._learners[output] = BanditLearner(output, before, rule, since_us, changes, at_once=at_once)

    def __contains__(self, output: str) -> bool:
        return output in self._learners

    @property
    def labels(self) -> int:
        """How many they have learned from."""
        return sum(one.labels for one in self._learners.values())

    def gather(self, rows: RecordedRows, labels: Sequence[Label | None], came_us: NDArray[np.int64]) -> None:
        """Have rows wait until ``learn``; arguments as of ``told_by``.

        Raises:
            QuorateError: they tell nothing.
        """
        output = rows.about.output
        writer = self._writer(rows.about.revision, output)
        self._told[output].append(told_by(rows, labels, came_us, self._views[output], writer, self.left_out))

    def learn(self) -> None:
        """From what waits, in the order in which labels came."""
        for output, parts in self._told.items():
            rows = joined(parts)
            if rows is not None:
                self._learners[output].take(rows)
        self._told.clear()

    def wish(self) -> tuple[str, PolicyWish] | None:
        """An output, and what is to be its policy; what cannot wait first."""
        wishes = [(name, one.wish) for name, one in self._learners.items() if one.wish is not None]
        wishes.sort(key=lambda one: not one[1].at_once)
        return wishes[0] if wishes else None

    def publication(self, output: str, wish: PolicyWish, fusion: str, revision: str) -> Publication:
        """What is going to be live."""
        self._publishing = output, wish
        gain, decided = {output: wish.gain}, {output: wish.decided_by}
        told = {output: self._learners[output].told_of(wish)}
        return Publication(fusion, revision, 0, wish.back, {}, gain, decided, told)

    def went_live(self, done: Publication, state: OnlineState) -> None:
        """A policy is live."""
        if done.policies and self._publishing is not None:
            output, wish = self._publishing
            state.note_policy(output, self._learners[output].went_live(wish, done.time_us))

    def report(self) -> list[dict[str, Any]]:
        """Of each output, in JSON's types."""
        return [one.report() for one in self._learners.values()]

    def _writer(self, name: str, output: str) -> Revision:
        if name not in self._writers:
            if len(self._writers) == _WRITERS:
                del self._writers[next(iter(self._writers))]
            self._writers[name] = self._writer_of(name).by_output
        return self._writers[name][output]
