"""Answers to rows that follow each other, as one: rows count from the first, and whoever is named stays named."""

import json

import numpy as np

from quorate.deployments.client.joined_results import joined
from quorate.deployments.client.result import Result

FULL = {"revision": "r1", "members_used": "a,b", "members_missing": "", "coverage": 1.0, "degraded": False}


def answer(rows, **said):
    return Result({"fused": np.full((rows, 2), 0.5)}, {**FULL, **said}, ("x", "y"))


def test_one_answer_is_itself_and_those_that_say_the_same_say_it_together():
    assert joined([one := answer(2)]) is one
    assert joined([one, answer(3)]).parameters == FULL
    assert joined([one, answer(3)]).outputs["fused"].shape == (5, 2)


def test_members_that_are_missing_from_some_rows_are_named_with_them():
    late = {"members_missing": "b:deadline", "members_used": "a", "coverage": 0.5, "degraded": True}
    some = {"members_missing": "a:nonfinite", "rows_missing": "a:0 2", "coverage": 0.5, "degraded": True}
    found = joined([answer(2), answer(1, **late), answer(3, **some, revision="r2")]).parameters
    assert found["members_missing"] == "b:deadline,a:nonfinite"
    assert found["rows_missing"] == "b:2,a:3 5"
    assert (found["members_used"], found["revision"]) == ("a,b", "r1,r2")
    assert (found["coverage"], found["degraded"]) == (0.5, True)
    whole = joined([answer(1, **late), answer(2, **late)]).parameters
    assert "rows_missing" not in whole


def test_what_is_said_of_each_row_stands_in_the_order_of_the_rows():
    sets = {"prediction_sets": json.dumps([["x"]]), "conformal_coverage": 0.9}
    found = joined([answer(2, rows_abstained="1"), answer(1, **sets, rows_abstained="0")])
    assert found.prediction_sets == [None, None, ["x"]]
    assert found.parameters["rows_abstained"] == "1 2"
    assert found.labels == ["x", None, None]


def test_outputs_whose_rows_have_other_shapes_are_arrays_of_their_own():
    tags = [Result({"fused": np.zeros((1, n, 2)), "tags": np.full((1, n), b"O", object)}, FULL) for n in (2, 3)]
    found = joined(tags)
    assert [row.shape for row in found.outputs["fused"]] == [(2, 2), (3, 2)]
    assert found.tags == [["O", "O"], ["O", "O", "O"]]
    assert found.to_dict()["outputs"]["tags"] == [["O", "O"], ["O", "O", "O"]]
