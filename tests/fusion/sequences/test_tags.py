"""Spans of tags, and the tags that a scheme allows."""

from __future__ import annotations

import itertools

import numpy as np

from quorate.fusion import decode, tag_scheme
from quorate.fusion.sequences.decoding import decode_flat

CLASSES = ("O", "B-person", "I-person", "I-place", "B-place")
# Random tags (p and q begin a person and a place, P and Q go on with one) and what seqeval 1.2.2 makes of them by
# Entities(tags, IOB2): first token, the one behind the last, and the second letter of the kind.
SEQEVAL = {
    "Q": "", "P": "", "OO": "", "qQ": "0:2l", "qqP": "0:1l 1:2l", "Qp": "1:2e", "QqO": "1:2l", "QqQ": "1:3l",
    "pQPO": "0:1e", "qqQOO": "0:1l 1:3l", "QOPOpP": "4:6e", "PPOOOOq": "6:7l", "PqpqqpPQ": "1:2l 2:3e 3:4l 4:5l 5:7e",
    "QQpq": "2:3e 3:4l", "QqQqq": "1:3l 3:4l 4:5l", "pQOPqQ": "0:1e 4:6l", "PppPPqQ": "1:2e 2:5e 5:7l",
    "OQPpqPpp": "3:4e 4:5l 6:7e 7:8e", "qPPp": "0:1l 3:4e", "qppQp": "0:1l 1:2e 2:3e 4:5e",
    "pqqOOp": "0:1e 1:2l 2:3l 5:6e", "QPqppqQ": "2:3l 3:4e 4:5e 5:7l", "OOqpPOQP": "2:3l 3:5e", "qOPPQ": "0:1l",
    "pQqQOqQ": "0:1e 2:4l 5:7l", "OpqOPqqQ": "1:2e 2:3l 5:6l 6:8l", "PPPQ": "", "qpQqQO": "0:1l 1:2e 3:5l",
    "OqQQq": "1:4l 4:5l", "pQpQpPpp": "0:1e 2:3e 4:6e 6:7e 7:8e",
}  # fmt: skip


def spans(*sequences: str) -> set[tuple[int, int, str]]:
    scheme = tag_scheme(CLASSES)
    assert scheme is not None
    tags = [tag for sequence in sequences for tag in sequence.split()]
    first = np.concatenate([np.arange(len(sequence.split())) == 0 for sequence in sequences])
    found = scheme.spans(np.array([CLASSES.index(tag) for tag in tags]), first)
    return {(int(a), int(b), scheme.kinds[k]) for a, b, k in zip(*found, strict=True)}


def test_a_span_goes_from_its_b_to_the_last_i_of_its_kind() -> None:
    assert spans("O B-person I-person O B-place B-place I-place") == {
        (1, 3, "person"), (4, 5, "place"), (5, 7, "place")
    }  # fmt: skip


def test_a_span_ends_with_its_sequence() -> None:
    assert spans("O B-person", "I-person O", "B-place I-place") == {(1, 2, "person"), (4, 6, "place")}


def test_random_tags_have_the_spans_that_seqeval_counts_under_strict_iob2() -> None:
    names = dict(zip("OpPqQ", ("O", "B-person", "I-person", "B-place", "I-place"), strict=True))
    for letters, counted in SEQEVAL.items():
        found = spans(" ".join(names[letter] for letter in letters))
        assert " ".join(f"{start}:{end}{kind[1]}" for start, end, kind in sorted(found)) == counted


def test_classes_that_are_no_tags_say_no_spans() -> None:
    for classes in (("cat", "dog"), ("O", "cat"), ("O", "I-person"), ("B-person", "I-person"), ("O", "B-x", "I-y"), ()):
        assert tag_scheme(classes) is None
    single = tag_scheme(("O", "B-x"))
    assert single is not None
    assert single.kinds == ("x",)


def allowed(tags: tuple[int, ...]) -> bool:
    names = ["O", *(CLASSES[tag] for tag in tags)]
    return all(not b.startswith("I-") or a[2:] == b[2:] for a, b in itertools.pairwise(names))


def test_the_decoded_tags_are_the_likeliest_of_all_that_are_allowed() -> None:
    random = np.random.default_rng(1)
    scheme = tag_scheme(CLASSES)
    values = random.dirichlet([0.5] * 5, (40, 4))
    lengths = random.integers(1, 5, 40)
    found = decode(values, lengths, scheme)
    for row, length in enumerate(lengths):
        rows = [tags for tags in itertools.product(range(5), repeat=int(length)) if allowed(tags)]
        best = max(rows, key=lambda tags: np.log(values[row, np.arange(len(tags)), list(tags)]).sum())
        assert tuple(found[row, :length]) == best
        assert (found[row, length:] == -1).all()
    assert (decode(values, lengths, None)[:, 0] == values[:, 0].argmax(axis=1)).all()


def test_what_stands_behind_an_end_and_beside_a_sequence_changes_no_tag() -> None:
    random = np.random.default_rng(2)
    scheme = tag_scheme(CLASSES)
    values = random.dirichlet([0.5] * 5, (6, 5))
    lengths = np.array([5, 3, 1, 0, 4, 2])
    spoiled = np.where((np.arange(5) >= lengths[:, None])[..., None], np.nan, values)
    found = decode(spoiled, lengths, scheme)
    for row, length in enumerate(lengths):
        if length:
            alone = decode(values[row : row + 1, :length], None, scheme)[0]
            assert found[row, :length].tolist() == alone.tolist()
    # The same tokens mixed up among each other: each sequence keeps its own order.
    flat = np.concatenate([values[row, :length] for row, length in enumerate(lengths)])
    sequences = np.repeat(np.arange(6), lengths)
    order = random.permutation(len(flat))
    order = order[np.argsort(random.permutation(6)[sequences[order]], kind="stable")]
    order = np.concatenate([np.flatnonzero(sequences == s) for s in dict.fromkeys(sequences[order])])
    expected = np.concatenate([found[row, :length] for row, length in enumerate(lengths)])
    assert decode_flat(flat[order], sequences[order], scheme).tolist() == expected[order].tolist()


def test_impossible_tags_still_give_a_row_that_is_allowed() -> None:
    values = np.zeros((1, 3, 5))
    values[..., 2] = 1.0  # I-person alone, from the first token on
    found = decode(values, None, tag_scheme(CLASSES))[0]
    assert allowed(tuple(found))
    assert found[1:].tolist() == [2, 2]
