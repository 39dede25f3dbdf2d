"""An ensemble's weights as they learn: each output's from its labelled rows, read as the live fusion reads them."""

# M members

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.revision import Revision
from quorate.deployments.learning.answer_columns import AnswersMetadata
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.online.bandit.ensemble_bandits import EnsembleBandits
from quorate.deployments.learning.online.following import LabelledRows
from quorate.deployments.learning.online.from_record import (
    LOSSES,
    UNDER_LOG_LOSS,
    LabelledStream,
    learns,
    weights_of,
)
from quorate.deployments.learning.online.learner import Floats, Learner, LossLearner, Start
from quorate.deployments.learning.online.publishing import Wish
from quorate.deployments.learning.online.relabelling.matrix import Named, Relabels
from quorate.deployments.learning.online.state import OnlineState, Publication, Weights
from quorate.deployments.learning.reading import RecordedRows, label_fits, rows_of_batch
from quorate.fusion.errors import QuorateError

# Of members that are asked: one of weight 0 is not, and could never earn any again.
LEAST_WEIGHT = 1e-4


def pinned_weights(revision: Revision) -> Weights:
    """Those of each output whose weights can go live."""
    found = {name: weights_of(view) for name, view in revision.by_output.items() if _task(view) in UNDER_LOG_LOSS}
    return {name: known for name, known in found.items() if known is not None}


class EnsembleLearner:
    """Learns under one revision; of another one is made anew.

    Attributes:
        left_out: labelled rows that could not be read, by why not.
    """

    def __init__(self, revision: Revision, state: OnlineState, at_once: bool, bandits: EnsembleBandits):
        """Args:
        revision: what is live.
        at_once: nothing is published: it is told when it would be.
        bandits: of outputs that have one, which learn whom to ask instead of weights.
        """
        self.bandits = bandits
        self._views = revision.by_output
        self._learners: dict[str, Learner] = {}
        self.left_out: dict[str, int] = {}
        for name, view in self._views.items():
            task, pinned = _task(view), state.pinned.get(name)
            if name in bandits:
                continue
            if task in UNDER_LOG_LOSS:
                known = None if pinned is None else np.array([pinned.get(one, 0.0) for one in view.asked])
                changes = () if at_once else state.changes_of(name)
                classes, relabel = view.graph.spec.classes or (), state.relabel.get(name, {})
                start = Start(name, view.asked, known, state.since_us, changes, at_once, classes, relabel)
                self._learners[name] = Learner(start)
            elif task in LOSSES:
                self._learners[name] = LossLearner(Start(name, view.asked, None), LOSSES[task])

    @property
    def labels(self) -> int:
        """How many it has learned from."""
        return sum(learner.labels for learner in self._learners.values()) + self.bandits.labels

    def take(self, found: Iterable[LabelledRows]) -> None:
        """Learn from rows, in the order in which their labels came."""
        streams: dict[str, LabelledStream] = {}
        for one in found:
            self._gather(streams, one)
        for output, stream in streams.items():
            self._learners[output].take(*stream.joined())
        self.bandits.learn()

    def wishes(self) -> dict[str, Wish]:
        """By output, what is to go live; pinned weights alone where some are to be taken back."""
        publishers = {name: one.publisher for name, one in self._learners.items() if one.publisher is not None}
        found = {name: one.wish for name, one in publishers.items() if one.wish is not None}
        back = {name: wish for name, wish in found.items() if wish.back}
        return back or {name: replace(wish, weights=_written(wish.weights)) for name, wish in found.items()}

    def publication(self, wishes: Mapping[str, Wish], fusion: str, revision: str, weights: Weights) -> Publication:
        """What is going to be live."""
        gains = {name: wish.gain for name, wish in wishes.items()}
        decided = {name: wish.decided_by for name, wish in wishes.items()}
        back = any(wish.back for wish in wishes.values())
        return Publication(fusion, revision, 0, back, weights, gains, decided, relabel=self.relabels(wishes))

    def weights(self, wishes: Mapping[str, Wish]) -> Weights:
        """As a spec has them."""
        return {
            name: dict(zip(self._views[name].asked, wish.weights.tolist(), strict=True))
            for name, wish in wishes.items()
        }

    def relabels(self, wishes: Mapping[str, Wish]) -> Mapping[str, Named]:
        """What classes are to be called, as a spec has it."""
        return {
            name: wish.relabels.to_names(self._views[name].graph.spec.classes or ()) for name, wish in wishes.items()
        }

    def went_live(self, done: Publication, state: OnlineState) -> None:
        """Weights are live."""
        for name, weights in done.weights.items():
            publisher = self._learners[name].publisher
            assert publisher is not None
            found = np.array([weights[one] for one in self._views[name].asked])
            classes = self._views[name].graph.spec.classes or ()
            relabels = Relabels.of_names(done.relabel.get(name, {}), classes)
            wish = Wish(found / found.sum(), done.taken_back, done.gains[name], done.decided_by[name], relabels)
            state.note(name, publisher.went_live(wish, done.time_us))
        self.bandits.went_live(done, state)

    def report(self) -> list[dict[str, Any]]:
        """Of each output, in JSON's types."""
        return [*(learner.report() for learner in self._learners.values()), *self.bandits.report()]

    def _gather(self, streams: dict[str, LabelledStream], found: LabelledRows) -> None:
        about = AnswersMetadata.of_schema(found.batch.schema)
        start = 0
        for rows in rows_of_batch(found.batch, about) if about is not None else ():
            stop = start + len(rows)
            labels: list[Label | None] = [
                label if label_fits(label, rows.about.classes) else None for label in found.labels[start:stop]
            ]
            came, start = found.came_us[start:stop], stop
            output = rows.about.output
            if not any(label is not None for label in labels):
                continue
            if output in self.bandits:
                self._gather_for_bandit(rows, labels, came)
                continue
            if output not in self._learners or not learns(rows):
                self._leave_out(f"weights of {output} do not learn", len(rows))
                continue
            if rows.about.classes != (self._views[output].graph.spec.classes or ()):
                self._leave_out(f"revision {rows.about.revision} had other classes", len(rows))
                continue
            stream = streams.get(output)
            if stream is None:
                view = self._views[output]
                stream = LabelledStream(_task(view), {name: at for at, name in enumerate(view.asked)})
            try:
                stream.add(rows, labels, came, self._views[output])
                streams[output] = stream
            except QuorateError as error:
                self._leave_out(str(error), len(rows))

    def _gather_for_bandit(
        self, rows: RecordedRows, labels: Sequence[Label | None], came_us: NDArray[np.int64]
    ) -> None:
        try:
            self.bandits.gather(rows, labels, came_us)
        except QuorateError as error:
            self._leave_out(str(error), sum(label is not None for label in labels))
        for why, count in self.bandits.left_out.items():
            self._leave_out(why, count)
        self.bandits.left_out.clear()

    def _leave_out(self, why: str, rows: int) -> None:
        if why in self.left_out or len(self.left_out) < 20:
            self.left_out[why] = self.left_out.get(why, 0) + rows


def _task(view: Revision) -> str:
    return view.graph.spec.inferred_task


def _written(weights: Floats) -> Floats:
    """As they are written."""
    return np.array([max(round(float(weight), 6), LEAST_WEIGHT) for weight in weights])
