"""The table of states, and what answers say of it."""

import numpy as np
import pytest

from quorate.deployments.engine.fusions.presence import (
    Presence,
    coverage_behind,
    discount,
    enough,
    first_reason,
    is_missing,
    refuse_shape,
    seen_by,
)
from quorate.deployments.transport.row_state import RowState

LETTERS = {
    ".": RowState.OK, "e": RowState.ERROR, "n": RowState.NONFINITE, "s": RowState.SHAPE, "l": RowState.DEADLINE,
    "d": RowState.DEAD, "-": RowState.UNASKED,
}  # fmt: skip


def table(*rows):
    """States by node, a letter for each row."""
    return np.array([[LETTERS[letter] for letter in row] for row in rows], dtype=np.uint8)


def presence(**nodes):
    return Presence(tuple(nodes), table(*nodes.values()))


def test_all_are_used_and_none_missing_where_all_answered():
    assert presence(a="...", b="...").account() == (("a", "b"), {}, {})


def test_a_member_missing_from_all_rows_is_not_used_and_one_missing_from_some_is():
    account = presence(a="..", b="dd", c=".n").account()
    assert account.used == ("a", "c")
    assert account.missing == {"b": "dead", "c": "nonfinite"}
    assert account.rows_missing == {"c": (1,)}


def test_the_reason_is_that_of_the_first_row_that_is_missing():
    assert presence(a=".len").account().missing == {"a": "deadline"}


def test_rows_that_were_not_asked_for_are_not_missing():
    account = presence(a="-.-", b="---", c="-e.").account()
    assert account.used == ("a", "c")
    assert account.missing == {"c": "error"}
    assert account.rows_missing == {"c": (1,)}


def test_rows_are_alike_where_every_member_has_one_state():
    assert presence(a="...", b="...").alike()
    assert presence(a="...", b="ddd", c="---").alike()
    assert not presence(a="...", b="d.d").alike()


def test_a_cut_tells_of_its_rows_alone():
    whole = presence(a="..e", b="d..")
    assert whole.cut(0, 1).account() == (("a",), {"b": "dead"}, {})
    assert whole.cut(1, 2).account() == (("a", "b"), {}, {})
    assert whole.cut(1, 3).account() == (("a", "b"), {"a": "error"}, {"a": (1,)})


def test_the_states_of_the_first_nodes_are_those_of_the_fused_members():
    assert presence(a="..", b="d.", read_by_a="ee").first(2).tolist() == table("..", "d.").tolist()


@pytest.mark.parametrize(
    ("rows", "quorum", "holds"),
    [
        (("...", ".d.", ".dd"), 2, [True, False, True]),
        (("..", "-.", "--"), 2, [True, True]),  # no more than were asked
        (("d-", "--", "--"), 2, [False, False]),  # at least one
        ((".", ".", "n"), 3, [False]),
    ],
)
def test_a_row_has_enough_members_where_the_quorum_answered(rows, quorum, holds):
    assert enough(table(*rows), quorum, ()).tolist() == holds


def test_required_members_must_be_in_every_row():
    assert enough(table("..d", ".d."), 1, [0]).tolist() == [True, True, False]
    assert enough(table("..d", ".d."), 1, [0, 1]).tolist() == [True, False, False]


def test_a_row_is_missing_where_it_was_asked_for_and_not_given():
    assert is_missing(table(".enl-")).tolist() == [[False, True, True, True, False]]


def test_the_reason_for_a_row_is_that_of_the_first_member_that_is_missing_from_it():
    assert first_reason(table(".-d.", "le.-")).tolist() == table("led-")[0].tolist()


def test_rows_of_a_wrong_shape_are_marked_but_those_that_failed_keep_their_reason():
    states = table(".e.-")
    refuse_shape(states)
    assert states.tolist() == table("ses-").tolist()


def test_a_fusion_sees_rows_it_asked_for_and_that_came_in_time():
    states = table("..ee.")[0]
    settled = np.array([True, False, True, False, True])
    asked = np.array([True, True, True, True, False])
    assert seen_by(states, settled, asked).tolist() == table(".lel-")[0].tolist()


def test_coverage_of_what_members_read_counts_by_how_much_they_contributed():
    contributions = np.array([[0.25, 1.0, 0.0], [0.75, 0.0, 0.0]], dtype=np.float32)
    behind = {"b": np.array([0.5, 0.5, 0.5], dtype=np.float32)}
    np.testing.assert_allclose(discount(("a", "b"), contributions, behind), [0.625, 1.0, 1.0])
    np.testing.assert_array_equal(discount(("a", "b"), contributions, {}), [1.0, 1.0, 1.0])


def test_coverage_behind_a_member_is_the_lowest_of_all_that_it_reads():
    reads = {"head": ("trunk", "joined", "x"), "trunk": ("other",)}
    fused = {"joined": np.array([1.0, 0.5]), "other": np.array([0.75, 0.75])}

    def behind(member):
        return coverage_behind(member, lambda name: reads.get(name, ()), fused.get)

    np.testing.assert_array_equal(behind("head"), [0.75, 0.5])
    np.testing.assert_array_equal(behind("trunk"), [0.75, 0.75])
    assert behind("x") is None
