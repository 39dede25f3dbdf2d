"""Votes on spans."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from quorate.fusion import Mean, SpanVote, fuse_tokens, tag_scheme
from quorate.fusion.errors import QuorumError, RuleOptionError

CLASSES = ("O", "B-person", "I-person", "B-place", "I-place")


def said(*rows: str) -> Tensor:
    """(M, 1, T, C) of members that are sure; p and q begin a person and a place, P and Q go on with one."""
    return torch.stack([torch.eye(5)[["OpPqQ".index(letter) for letter in row]].unsqueeze(0) for row in rows])


def voted(*rows: str, weights: list[float] | None = None, **options: object) -> str:
    rule = SpanVote(len(rows), CLASSES, weights, **options)  # type: ignore[arg-type]
    return "".join("OpPqQ"[tag] for tag in fuse_tokens(rule, said(*rows)).values[0].argmax(dim=-1))


def test_a_span_wins_with_half_of_the_weight() -> None:
    assert voted("OpPO", "OpPO", "OOOq") == "OpPO"
    assert voted("OpPO", "OOOO", "OOOq") == "OOOO"
    assert voted("OpPO", "OOOO", "OOOq", weights=[2, 1, 1]) == "OpPO"
    assert voted("OpPO", "OOOO", "OOOq", threshold=0.3) == "OpPq"


def test_a_share_that_only_rounding_keeps_from_the_threshold_wins() -> None:
    assert voted("pO", "pO", "OO", weights=[0.1, 0.2, 0.7], threshold=0.3) == "pO"


def test_of_spans_that_overlap_the_one_with_more_votes_wins_and_what_it_leaves_is_open_to_others() -> None:
    assert voted("pPPO", "pPPO", "OqOp", threshold=0.2) == "pPPp"
    assert voted("pPPO", "OqOO", "OqOp", threshold=0.2) == "OqOp"


def test_ties_go_to_the_longer_span_or_to_a_class_that_is_preferred() -> None:
    tied = "pPPO", "OqQO"
    assert voted(*tied) == "pPPO"
    assert voted(*tied, tie="shorter") == "OqQO"
    assert voted(*tied, tie="first") == "pPPO"
    assert voted(*tied, prefer=["place"]) == "OqQO"
    assert voted("OqQQ", "pPPO", tie="longer") == "pPPO"  # as long: the one that begins first


def test_no_order_of_members_changes_a_bit() -> None:
    random = np.random.default_rng(0)
    outputs = torch.from_numpy(random.dirichlet([0.3] * 5, (4, 20, 6)).astype(np.float32))
    weights = [0.1, 0.2, 0.3, 0.4]
    padding = torch.from_numpy(np.arange(6) >= random.integers(0, 7, 20)[:, None])
    expected = fuse_tokens(SpanVote(4, CLASSES, weights, 0.3), outputs, padding=padding)
    for order in itertools.permutations(range(4)):
        rule = SpanVote(4, CLASSES, [weights[m] for m in order], 0.3)
        found = fuse_tokens(rule, outputs[list(order)], padding=padding)
        assert torch.equal(found.values, expected.values)
        assert torch.equal(found.coverage, expected.coverage)


def test_a_sequence_has_the_bits_that_it_has_alone() -> None:
    random = np.random.default_rng(1)
    outputs = torch.from_numpy(random.dirichlet([0.3] * 5, (3, 8, 5)).astype(np.float32))
    lengths = random.integers(1, 6, 8)
    padding = torch.from_numpy(np.arange(5) >= lengths[:, None])
    rule = SpanVote(3, CLASSES, threshold=0.6)
    together = fuse_tokens(rule, outputs, padding=padding)
    for row, length in enumerate(lengths):
        alone = rule.fuse(outputs[:, row, :length])
        assert torch.equal(together.values[row, :length], alone.values)
        assert not together.values[row, length:].any()


def test_values_are_shares_of_the_votes_and_say_spans_that_do_not_overlap() -> None:
    found = fuse_tokens(SpanVote(3, CLASSES), said("OpPO", "OpPO", "OpOO"))
    torch.testing.assert_close(found.values[0].amax(dim=-1), torch.tensor([1.0, 2 / 3, 2 / 3, 1.0]))
    rejected = fuse_tokens(SpanVote(3, CLASSES), said("OpPO", "OOOO", "OOOO")).values[0]
    torch.testing.assert_close(rejected[:, 0], torch.tensor([1.0, 2 / 3, 2 / 3, 1.0]))


def test_a_member_that_is_absent_from_a_token_has_no_vote_in_that_sequence() -> None:
    outputs = said("pOOO", "OOqO", "OOqO").repeat(1, 2, 1, 1)
    outputs[2, 1, 3, 0] = float("nan")
    found = fuse_tokens(SpanVote(3, CLASSES, [0.5, 0.25, 0.25], 0.6), outputs)
    assert found.values[1].argmax(dim=-1).tolist() == [1, 0, 0, 0]  # two thirds of what is there
    np.testing.assert_allclose(found.coverage, [[1.0] * 4, [0.75] * 4])
    np.testing.assert_allclose(found.contributions[:, 1, 0], [2 / 3, 1 / 3, 0], rtol=1e-6)
    with pytest.raises(QuorumError):
        fuse_tokens(SpanVote(3, CLASSES), outputs, torch.zeros(3, 2, dtype=torch.bool))


def test_spans_of_sure_members_are_those_of_their_mean_where_all_agree() -> None:
    outputs = said("OpPq", "OpPq")
    mean, vote = (fuse_tokens(rule, outputs).values for rule in (Mean(2), SpanVote(2, CLASSES)))
    assert torch.equal(mean, vote)


def test_what_cannot_be_used_is_a_typed_error() -> None:
    for options in ({"threshold": 0}, {"threshold": 1.5}, {"tie": "best"}, {"prefer": ["dog"]}, {"weights": [0, 0]}):
        with pytest.raises(RuleOptionError) as found:
            SpanVote(2, CLASSES, **options)
        assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)
    with pytest.raises(RuleOptionError, match="O, B-x and I-x"):
        SpanVote(2, ("cat", "dog"))
    assert tag_scheme(CLASSES) == SpanVote(2, CLASSES).scheme
