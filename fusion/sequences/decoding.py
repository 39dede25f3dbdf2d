"""From distributions of tags to one tag a token: the likeliest row of tags that the scheme allows (Viterbi 1967).

An I-x stands only behind B-x or I-x. Tokens are independent but for that: the row of tags is the one of the largest
product of probabilities. Of several the lower columns win, from the last token back.
"""

# B sequences, T tokens, C classes, N tokens of all sequences

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.sequences.tags import TagScheme

PADDING = -1
# A class of probability 0 is next to impossible, so that there always is a row of tags.
_LEAST = 1e-30
# Sequences of about one length that are decoded together.
_BLOCK = 512


def decode(values: NDArray[Any], lengths: NDArray[Any] | None, scheme: TagScheme | None) -> NDArray[np.int64]:
    """The likeliest tags.

    Args:
        values: (B, T, C) probabilities; what stands behind a sequence's end is not read.
        lengths: (B,) tokens of each sequence; None where all have T.
        scheme: what may follow what; None where everything may.

    Returns:
        (B, T) columns, ``PADDING`` behind a sequence's end.
    """
    batch, length = values.shape[:2]
    counts = np.full(batch, length) if lengths is None else np.asarray(lengths).reshape(batch)
    padding = np.arange(length) >= counts[:, None]
    if scheme is None or not length:
        return np.where(padding, PADDING, values.argmax(axis=2))
    return np.where(padding, PADDING, _viterbi(values, padding, scheme))


def decode_flat(values: NDArray[Any], sequences: NDArray[Any] | None, scheme: TagScheme | None) -> NDArray[np.int64]:
    """The same of (N, C) tokens; ``sequences`` (N,) says which belong together, in the order of the rows.

    Returns:
        (N,) columns.
    """
    tags = np.empty(len(values), dtype=np.int64)
    for rows, lengths in padded(sequences, len(values)):
        found = decode(values[rows], lengths, scheme)
        there = found != PADDING
        tags[rows[there]] = found[there]
    return tags


def padded(sequences: NDArray[Any] | None, count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks of sequences of about one length: (B, T) numbers of their tokens (any behind an end), and (B,) lengths."""
    order, starts, lengths = one_behind_the_other(np.zeros(count, np.int64) if sequences is None else sequences)
    by_length = np.argsort(lengths, kind="stable")
    for at in range(0, len(by_length), _BLOCK):
        block = by_length[at : at + _BLOCK]
        places = starts[block, None] + np.arange(lengths[block].max())
        yield order[np.minimum(places, count - 1)], lengths[block]


def one_behind_the_other(
    sequences: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The (N,) order that puts the tokens of each of S sequences together; (S,) where each starts, how long it is."""
    number = np.asarray(np.unique(sequences, return_inverse=True)[1]).reshape(-1)
    lengths = np.bincount(number)
    return np.argsort(number, kind="stable"), np.cumsum(lengths) - lengths, lengths


def first_tokens(sequences: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """That order, and which tokens then are the first of their sequences."""
    order, starts, _ = one_behind_the_other(sequences)
    first = np.zeros(len(order), dtype=np.bool_)
    first[starts] = True
    return order, first


def _viterbi(values: NDArray[Any], padding: NDArray[np.bool_], scheme: TagScheme) -> NDArray[np.int64]:
    logs = np.log(np.maximum(values.astype(np.float64), _LEAST))
    batch, length, classes = logs.shape
    has_inside = scheme.insides >= 0
    insides = scheme.insides[has_inside]
    # The two that an I-x may follow, the lower column first: it wins where both are as likely.
    before = np.sort(np.stack([scheme.begins[has_inside], insides]), axis=0)
    score = logs[:, 0].copy()
    score[:, insides] = -np.inf
    came_from = np.empty((batch, length, classes), dtype=np.int64)
    for token in range(1, length):
        best = score.argmax(axis=1)
        reached = np.repeat(score[np.arange(batch), best][:, None], classes, axis=1)
        source = np.repeat(best[:, None], classes, axis=1)
        low, high = score[:, before[0]], score[:, before[1]]
        reached[:, insides] = np.maximum(low, high)
        source[:, insides] = np.where(high > low, before[1], before[0])
        ended = padding[:, token, None]
        came_from[:, token] = np.where(ended, np.arange(classes), source)
        score = np.where(ended, score, reached + logs[:, token])
    tags = np.empty((batch, length), dtype=np.int64)
    tags[:, -1] = score.argmax(axis=1)
    for token in range(length - 1, 0, -1):
        tags[:, token - 1] = came_from[np.arange(batch), token, tags[:, token]]
    return tags
