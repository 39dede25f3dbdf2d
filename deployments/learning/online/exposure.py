"""How much of what was learned may be live while labels are outstanding.

Rows whose labels are still to come cannot say that they go badly. What they would lose, should the world again be what
it was, is known of rows that were answered then: the share of the learned weights in those that go live is such that
over as many answers as wait for their labels it would nowhere have lost more than is allowed. A world that has been
gone for longer than rows are remembered is not expected back.
"""

# M members, N labels, R rows that are remembered

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.online.mixture import pooled

Floats = NDArray[np.float64]
# In nats, over the answers that wait for their labels. With what is lost before weights are taken back
# (``publishing.BUDGET``) that is less than 10, of 2,000 rows .005 each.
ALLOWED = 3.0
# More only where rows have won so many times as much since, and over any number of the latest beyond a few: who has a
# broken member cannot wait. These came out best on skills that change to and fro, and on texts with a broken member
# (benchmarks/online.py).
ODDS, FEW = 9.0, 16
# So many labelled rows are remembered.
REMEMBERED = 4096
# How lately a label came counts as one of so many.
_LATELY = 256
_HALVINGS = 10


class Exposure:
    """Remembers rows, and says how much of weights may be live."""

    def __init__(self, pinned: Floats):
        """Args:
        pinned: (M,) the weights of the revision that somebody deployed.
        """
        self._pinned = pinned
        self._count, self._late = 0, 0.0
        self._times = np.empty(REMEMBERED, np.int64)
        self._probs = np.empty((REMEMBERED, len(pinned)))
        self._present = np.empty(self._probs.shape, np.bool_)

    def add(
        self, times: NDArray[np.int64], overtaken: NDArray[np.intp], probs: Floats, present: NDArray[np.bool_]
    ) -> None:
        """Take labels.

        Args:
            times: (N,) when each row was answered.
            overtaken: (N,) how many labels came after that and before its own.
            probs: (N, M) what each member gave to what was true, and ``present`` (N, M) who answered.
        """
        for late in overtaken.tolist():
            self._count += 1
            self._late += (late - self._late) / min(self._count, _LATELY)
        places = np.arange(self._count - len(times), self._count) % REMEMBERED
        self._times[places], self._probs[places], self._present[places] = times, probs, present

    def share(self, learned: Floats) -> tuple[float, NDArray[np.intp]]:
        """How much of (M,) weights may be live, the rest being the pinned ones.

        Returns:
            Between 0 and 1; and the places of the rows since which they have been better than the pinned ones.
        """
        waiting = round(self._late)
        rows = np.argsort(self._times[: min(self._count, REMEMBERED)], kind="stable")
        rows = rows[self._present[rows][:, self._pinned > 0].any(axis=1)]
        if not len(rows):
            return 1.0, rows
        probs, present = self._probs[rows], self._present[rows]
        ratios = pooled(learned, probs, present) / pooled(self._pinned, probs, present)
        won = np.log(ratios[::-1]).cumsum()
        lasted = int(won.argmax()) + 1
        steadily = won[lasted - 1] / lasted if (won[FEW:lasted] > 0).all() else 0.0
        return _share(ratios, steadily, waiting), rows[-lasted:]

    def gain(self, weights: Floats, live: Floats, places: NDArray[np.intp]) -> float:
        """In nats a row, of (M,) weights over others, by rows at (R,) places."""
        probs, present = self._probs[places], self._present[places]
        return float(np.log(pooled(weights, probs, present) / pooled(live, probs, present)).mean())


def _share(ratios: Floats, won: float, waiting: int) -> float:
    """The largest share that loses no more than is allowed while so many labels are awaited; ``won`` nats a row."""
    if not waiting or _most_lost(ratios, 1.0, waiting) <= max(ALLOWED, waiting * won / ODDS):
        return 1.0
    least, most = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        least, most = (middle, most) if _most_lost(ratios, middle, waiting) <= ALLOWED else (least, middle)
    return least


def _most_lost(ratios: Floats, share: float, answers: int) -> float:
    """The most nats that so many answers in a row would have lost with a share of weights that are so much better."""
    sums = np.concatenate([[0.0], np.log(1 - share + share * ratios).cumsum()])
    known = min(answers, -(-len(ratios) // 2))  # of two worlds one is seen
    return float((sums[:-known] - sums[known:]).max()) * answers / known
