"""Tags that say spans (IOB2): B-x begins a span of kind x, I-x goes on with one, O stands outside of all.

Ramshaw and Marcus 1995, "Text Chunking using Transformation-Based Learning"; Sang and Veenstra 1999, "Representing
Text Chunks", for IOB2. A span is a B-x and the I-x right behind it; an I-x elsewhere says nothing. So counts seqeval
under strict IOB2, and conlleval where no I-x is elsewhere.
"""

# N tokens of all sequences, one behind the other; C classes, X kinds, S spans

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

OUTSIDE = "O"
_BEGIN, _INSIDE = "B-", "I-"
Numbers = NDArray[np.int64]


class Spans(NamedTuple):
    """Spans by their place among N tokens.

    Attributes:
        starts: (S,) number of the first token.
        ends: (S,) number of the token behind the last.
        kinds: (S,) numbers among ``TagScheme.kinds``.
    """

    starts: Numbers
    ends: Numbers
    kinds: Numbers


@dataclass(frozen=True)
class TagScheme:
    """Classes that are tags.

    Attributes:
        classes: C names: O, B-x and I-x.
        kinds: the X names x, in the order of their B-x.
    """

    classes: tuple[str, ...]
    kinds: tuple[str, ...]

    @cached_property
    def outside(self) -> int:
        """The column of O."""
        return self.classes.index(OUTSIDE)

    @cached_property
    def begins(self) -> Numbers:
        """(X,) columns of the B-x."""
        return np.array([self.classes.index(_BEGIN + kind) for kind in self.kinds], dtype=np.int64)

    @cached_property
    def insides(self) -> Numbers:
        """(X,) columns of the I-x, -1 for a kind whose spans have one token."""
        place = {name: column for column, name in enumerate(self.classes)}
        return np.array([place.get(_INSIDE + kind, -1) for kind in self.kinds], dtype=np.int64)

    @cached_property
    def kind_of(self) -> Numbers:
        """(C,) the kind that a class says, -1 for O."""
        found = np.full(len(self.classes), -1, dtype=np.int64)
        found[self.begins] = np.arange(len(self.kinds))
        found[self.insides[self.insides >= 0]] = np.flatnonzero(self.insides >= 0)
        return found

    @cached_property
    def is_inside(self) -> NDArray[np.bool_]:
        """(C,) whether a class is an I-x."""
        found = np.zeros(len(self.classes), dtype=np.bool_)
        found[self.insides[self.insides >= 0]] = True
        return found

    def spans(self, tags: NDArray[Any], first: NDArray[np.bool_]) -> Spans:
        """The spans that tags say.

        Args:
            tags: (N,) columns; -1 where there is no token, which ends a span as O does.
            first: (N,) whether a token is the first of its sequence.
        """
        none = tags < 0
        inside, kind = self.is_inside[tags] & ~none, np.where(none, -1, self.kind_of[tags])
        begins = (kind >= 0) & ~inside
        goes_on = inside & ~first
        goes_on[1:] &= kind[1:] == kind[:-1]
        stops = np.append(np.flatnonzero(~goes_on), len(tags))
        starts = np.flatnonzero(begins)
        return Spans(starts, stops[np.searchsorted(stops, starts, side="right")], kind[starts])

    def write(self, spans: Spans, length: int) -> Numbers:
        """(length,) the tags of spans that do not overlap."""
        tags = np.full(length, self.outside, dtype=np.int64)
        for start, end, kind in zip(*(column.tolist() for column in spans), strict=True):
            tags[start + 1 : end] = self.insides[kind]
            tags[start] = self.begins[kind]
        return tags


def tag_scheme(classes: Sequence[str]) -> TagScheme | None:
    """How these classes say spans; None for classes that do not: all but O are B-x or I-x, and each I-x has its B-x."""
    names = tuple(classes)
    kinds = tuple(name.removeprefix(_BEGIN) for name in names if name.startswith(_BEGIN))
    known = {OUTSIDE, *(_BEGIN + kind for kind in kinds), *(_INSIDE + kind for kind in kinds)}
    if not kinds or "" in kinds or OUTSIDE not in names or not set(names) <= known:
        return None
    return TagScheme(names, kinds)
