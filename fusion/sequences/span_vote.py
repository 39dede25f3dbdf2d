"""A vote on spans: those that a member's decoded tags say are its ballots; of spans that overlap the best one wins."""

# M members, B sequences, T tokens, C classes, S spans, N = B * T tokens

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.base import Fused, Rule, check_options, weights_in_order
from quorate.fusion.errors import MemberCountError, QuorumError, RuleOptionError, ShapeError
from quorate.fusion.sequences.decoding import PADDING, decode
from quorate.fusion.sequences.tags import Spans, TagScheme, tag_scheme

LONGER, SHORTER, FIRST = TIES = ("longer", "shorter", "first")
# Votes are counted in whole numbers, so that no order of members can change a count.
_WHOLE = 2.0**40
# 0.1 + 0.2 against a threshold of 0.3: what falls short by rounding alone reaches it.
_ROUNDING = 2**4
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Ballots:
    """Every span that some member says, once.

    Attributes:
        spans: S of them, by start, end and kind.
        voters: (S, M) bool, who says it.
    """

    spans: Spans
    voters: NDArray[np.bool_]

    @classmethod
    def of(cls, tags: NDArray[np.int64], first: NDArray[np.bool_], scheme: TagScheme) -> Ballots:
        """Of members' (M, N) tags; ``first`` as of ``TagScheme.spans``."""
        said = [np.stack(scheme.spans(one, first), axis=1) for one in tags]
        distinct, place = np.unique(np.concatenate(said), axis=0, return_inverse=True)
        voters = np.zeros((len(distinct), len(tags)), dtype=np.bool_)
        voters[np.asarray(place).reshape(-1), np.repeat(np.arange(len(tags)), [len(one) for one in said])] = True
        return cls(Spans(*distinct.T), voters)


@dataclass(frozen=True)
class TiePolicy:
    """Which of several spans with as many votes goes first.

    Attributes:
        ranks: (X,) of kinds, the preferred ones lower.
        tie: between spans of one rank: ``longer``, ``shorter`` or the one that begins ``first``.
    """

    ranks: tuple[int, ...]
    tie: str = LONGER

    def order(self, spans: Spans, votes: NDArray[Any]) -> NDArray[np.intp]:
        """Numbers of the spans, the first to go first; no two are alike, so that it is one order."""
        length = spans.ends - spans.starts
        by_length = {LONGER: -length, SHORTER: length, FIRST: np.zeros_like(length)}[self.tie]
        ranks = np.array(self.ranks)[spans.kinds]
        return np.lexsort((spans.kinds, spans.ends, spans.starts, by_length, ranks, -votes))


def elect(spans: Spans, votes: NDArray[Any], enough: NDArray[np.bool_], policy: TiePolicy) -> NDArray[np.intp]:
    """Numbers of the spans that win: those with enough votes, each unless it overlaps one that goes before it.

    Args:
        votes, enough: (S,).
    """
    alone, others = _apart(spans, np.flatnonzero(enough))
    if not len(others):
        return alone
    taken = np.zeros(int(spans.ends[others].max()), dtype=np.bool_)
    order = policy.order(Spans(*(column[others] for column in spans)), votes[others])
    won = []
    for number in others[order].tolist():
        start, end = spans.starts[number], spans.ends[number]
        if not taken[start:end].any():
            taken[start:end] = True
            won.append(number)
    return np.concatenate([alone, np.array(won, dtype=np.intp)])


def _apart(spans: Spans, among: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of these spans the numbers of those that overlap none of them, and of those that do."""
    among = among[np.argsort(spans.starts[among], kind="stable")]
    starts, ends = spans.starts[among], spans.ends[among]
    fresh = np.ones(len(among) + 1, dtype=np.bool_)  # begins behind the ends of all before it
    fresh[1:-1] = starts[1:] >= np.maximum.accumulate(ends)[:-1]
    alone = fresh[:-1] & fresh[1:]
    return among[alone], among[~alone]


class SpanVote(Rule):
    """Spans with a share of the members' weight win.

    Where a member is absent from a token, none of its spans in that sequence is known: it is absent there altogether.
    The value of a token's tag is its share of the votes: that of its span, or what no span that covers it has; other
    tags have 0. The rows that ``fuse`` takes are the tokens of one sequence.
    """

    name = "span_vote"

    def __init__(
        self,
        num_members: int,
        classes: Sequence[str],
        weights: Sequence[float] | None = None,
        threshold: float = 0.5,
        tie: str = LONGER,
        prefer: Sequence[str] = (),
    ):
        """Args:
            num_members: M.
            classes: C names, O, B-x and I-x.
            weights: M finite numbers >= 0; None when every member counts the same.
            threshold: of the weight of those that answered, above 0 and at most 1; a span with as much wins.
            tie: between spans with as many votes: ``longer``, ``shorter`` or ``first``.
            prefer: kinds that go before others with as many votes, whatever their lengths; the first named first.

        Raises:
            RuleOptionError: an option is unusable, or the classes say no spans.
            MemberCountError: there are not M weights.
        """
        scheme = tag_scheme(classes)
        if scheme is None:
            raise RuleOptionError(self.name, "classes", list(classes), "name the classes O, B-x and I-x")
        if not isinstance(threshold, (int, float)) or not 0 < threshold <= 1:
            raise RuleOptionError(self.name, "threshold", threshold, "give a share above 0, 1 at most")
        if tie not in TIES:
            raise RuleOptionError(self.name, "tie", tie, f"use {' or '.join(TIES)}")
        unknown = [kind for kind in prefer if kind not in scheme.kinds]
        if unknown or isinstance(prefer, str):
            raise RuleOptionError(self.name, "prefer", prefer, f"list some of {', '.join(scheme.kinds)}")
        self.scheme, self.num_members, self.threshold = scheme, num_members, float(threshold)
        self.policy = TiePolicy(_ranks(scheme.kinds, prefer), tie)
        self.spec_weights = None if weights is None else [float(weight) for weight in weights]
        self._shares = _shares(self.name, num_members, self.spec_weights)
        own = {"threshold": float(threshold), "tie": tie, "prefer": list(prefer)}
        self.options = {key: value for key, value in own.items() if value != []}

    @classmethod
    def of_classes(
        cls,
        members: Sequence[str],
        weights: Mapping[str, float] | None,
        options: Mapping[str, Any],
        classes: Sequence[str],
    ) -> SpanVote:
        """Build the rule from the fields of a spec, and the names of its classes.

        Raises:
            RuleOptionError: a field that the rule does not read, or a value it cannot use.
        """
        check_options(cls.name, members, weights, options)
        return cls(len(members), classes, weights_in_order(members, weights), **options)

    def fuse_sequences(self, outputs: Tensor, present: Tensor, padding: Tensor) -> Fused:
        """Fuse whole sequences.

        Args:
            outputs: (M, B, T, C) probabilities.
            present: (M, B, T) bool.
            padding: (B, T) bool, True where there is no token.

        Returns:
            values (B, T, C), contributions (M, B, T), coverage (B, T); all zero at padding.

        Raises:
            ShapeError: there are not C classes.
            QuorumError: a sequence has no member of weight.
        """
        if outputs.shape[-1] != len(self.scheme.classes):
            raise ShapeError("outputs", f"{len(self.scheme.classes)} classes", str(tuple(outputs.shape)))
        said, blank = outputs.detach().cpu().numpy(), padding.cpu().numpy()
        there = (present.cpu().numpy() & np.isfinite(said).all(axis=3)) | blank
        whole = there.all(axis=2)
        votes = self._shares[:, None] * whole
        total, tokens = votes.sum(axis=0), ~blank
        if (total[tokens.any(axis=1)] == 0).any():
            raise QuorumError("one member with weight above 0 in every sequence", "a sequence without any")
        tags, shares = self._decided(said, tokens, whole, votes, np.maximum(total, 1))
        values = np.zeros(said.shape[1:], dtype=np.float32)
        np.put_along_axis(values, np.maximum(tags, 0)[..., None], np.where(tokens, shares, 0)[..., None], axis=2)
        contributions = (votes / np.maximum(total, 1))[:, :, None] * tokens
        coverage = np.where(tokens, (total / self._shares.sum())[:, None], 0)
        parts = (values, contributions.astype(np.float32), coverage.astype(np.float32))
        return Fused(*(torch.from_numpy(part).to(outputs.device) for part in parts))

    def _decided(
        self,
        said: NDArray[Any],
        tokens: NDArray[np.bool_],
        whole: NDArray[np.bool_],
        votes: NDArray[np.int64],
        total: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(B, T) tags and the share of the votes that each has.

        Args:
            tokens: (B, T) where there are any.
            whole: (M, B) whom each sequence is fused from.
            votes, total: (M, B) and (B,) whole numbers.
        """
        batch, length = tokens.shape
        lengths = tokens.sum(axis=1)
        tags = np.stack([np.where(whole[m][:, None], decode(one, lengths, self.scheme), PADDING) for m, one in
                         enumerate(said)])  # fmt: skip
        first = np.zeros((batch, length), dtype=np.bool_)
        first[:, :1] = True
        ballots = Ballots.of(tags.reshape(len(said), -1), first.ravel(), self.scheme)
        rows = ballots.spans.starts // max(length, 1)
        counts = (ballots.voters * votes.T[rows]).sum(axis=1)
        enough = counts + _ROUNDING >= self.threshold * total[rows]
        won = elect(ballots.spans, counts, enough, self.policy)
        spans = Spans(*(column[won] for column in ballots.spans))
        shares = 1 - _most_covering(ballots.spans, counts / total[rows], batch * length)
        for number, start, end in zip(won, spans.starts, spans.ends, strict=True):
            shares[start:end] = counts[number] / total[rows[number]]
        found = self.scheme.write(spans, batch * length)
        return found.reshape(batch, length), np.maximum(shares, _LEAST_SHARE).reshape(batch, length)

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        padding = torch.zeros(1, outputs.shape[1], dtype=torch.bool, device=outputs.device)
        fused = self.fuse_sequences(outputs.unsqueeze(1), present.unsqueeze(1), padding)
        return Fused(fused.values[0], fused.contributions[:, 0], fused.coverage[0])


def _ranks(kinds: Sequence[str], prefer: Sequence[str]) -> tuple[int, ...]:
    places = {kind: rank for rank, kind in reversed(list(enumerate(prefer)))}
    return tuple(places.get(kind, len(prefer)) for kind in kinds)


def _shares(rule: str, num_members: int, weights: Collection[float] | None) -> NDArray[np.int64]:
    """(M,) whole numbers in the ratios of the weights."""
    values = [1.0] * num_members if weights is None else list(weights)
    if len(values) != num_members or not num_members:
        raise MemberCountError(num_members, len(values))
    if any(not math.isfinite(weight) or weight < 0 for weight in values) or not 0 < math.fsum(values) < math.inf:
        raise RuleOptionError(rule, "weights", values, "give each member a finite weight >= 0, not all 0")
    return np.round(np.array(values) / math.fsum(values) * _WHOLE).astype(np.int64)


def _most_covering(spans: Spans, shares: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """(length,) the largest share of a span over each token, 0 where there is none."""
    most = np.zeros(length)
    for start, end, share in zip(spans.starts, spans.ends, shares, strict=True):
        np.maximum(most[start:end], share, out=most[start:end])
    return most
