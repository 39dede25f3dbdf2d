"""One row more, answered as wrongly as it could have been: what rows do not happen to show is not impossible.

Of n rows without an error the next is one with a chance of about 1 in n (Laplace's rule of succession). Without it a
floor or a temperature is fitted to rows that happen to have none, and one row of 36 nats follows.
"""

# M members, N rows, C classes

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.scoring import Floats

# Of more rows one says nothing, and they would be copied for it.
_MOST_ROWS = 20_000


def one_error_more(
    probs: NDArray[Any], labels: NDArray[np.int64], counts: Floats | None = None
) -> tuple[NDArray[Any], NDArray[np.int64], Floats | None]:
    """The rows and a copy of the one in which the members' mean finds some class least likely, labelled with it.

    Args:
        probs: (M, N, C).
        labels: (N,).
        counts: (N,) how much each row counts, 1 in the mean; the copy counts 1.
    """
    if probs.shape[1] > _MOST_ROWS:
        return probs, labels, counts
    row, wrong = divmod(int(probs.mean(axis=0).argmin()), probs.shape[2])
    more = np.concatenate([probs, probs[:, [row]]], axis=1)
    return more, np.append(labels, wrong), None if counts is None else np.append(counts, 1.0)
