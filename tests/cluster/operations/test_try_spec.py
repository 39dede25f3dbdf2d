"""A spec tried in one process answers what it would be answered over HTTP."""

import json

import numpy as np
import pytest

from quorate.cluster.operations.try_spec import try_spec
from quorate.deployments import Client, save_spec
from quorate.deployments.errors import MemberFailedError, NonFiniteRowError, RequestError, SpecError
from quorate.deployments.spec.files import parse_spec
from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.factories.oracle import NAN, NONE, RAISE
from tests.deployments.support.graphs import first, member, rows_of, spec_of
from tests.deployments.support.member_threads import FACTORIES

ROWS = np.random.default_rng(3).normal(size=(7, 2)).astype(np.float32)


def without_names(parameters):
    """Of the revision, which a deployment names with the digests of its code, and of the answer."""
    return {name: value for name, value in parameters.items() if name not in ("revision", "answer_id")}


@pytest.mark.parametrize("asked", [{}, {"explain": True}, {"member": "b"}])
def test_it_is_the_answer_of_a_server(pair, pair_spec, asked):
    with Client(pair.http) as client:
        explained = {"explain": True} if "explain" in asked else {}
        served = client.infer(asked.get("member", "pair"), x=ROWS, **explained)
    tried = try_spec(pair_spec, {"x": ROWS}, folder=FACTORIES, **asked)
    assert list(tried.outputs) == list(served.outputs)
    for name, values in served.outputs.items():
        np.testing.assert_array_equal(tried.outputs[name], values)
    assert without_names(tried.parameters) == without_names(served.parameters)
    assert tried.members.keys() == {"a", "b"}


def test_its_revision_is_the_one_that_a_deployment_would_have(pair_spec):
    from quorate.cluster.operations.validate import validate

    tried = try_spec(pair_spec, {"x": ROWS}, folder=FACTORIES)
    assert tried.parameters["revision"] == validate(pair_spec, folder=FACTORIES).revision


def test_a_graph_of_members_runs_whole_and_no_deadline_passes():
    members = {"deep": member(1, ["row"], "features", 4), "head": member(2, ["deep"])}
    spec = spec_of(members, fusion={"rule": "mean", "deadline_s": 0.001})
    rows = rows_of((1, NONE, 0), (2, NONE, 0))
    tried = try_spec(spec, rows, folder=FACTORIES)
    expected = evaluate(2, 3, [evaluate(1, 4, [first(rows)])])
    np.testing.assert_allclose(tried.outputs["fused"], expected, rtol=1e-6)


def test_who_fails_on_a_row_is_missing_and_says_why_with_its_own_line():
    members = {"good": member(1, ["row"], index=1), "bad": member(2, ["row"], index=0)}
    tried = try_spec(spec_of(members, fusion={"rule": "mean"}), rows_of((1, RAISE, 1)), folder=FACTORIES)
    assert tried.parameters["members_missing"] == "bad:error"
    assert tried.members["bad"].error.startswith("ValueError: told to\n  ")
    assert "graph.py" in tried.members["bad"].error
    assert tried.members["good"].error == ""
    assert "ValueError: told to" in repr(tried)


def test_where_nobody_answers_the_member_is_named_with_the_line_of_the_spec(tmp_path):
    spec = parse_spec(spec_of({"m": member(1, ["row"])}, fusion={"rule": "mean"}))
    save_spec(spec, tmp_path / "spec.yaml")
    for command, error, said in (
        (RAISE, MemberFailedError, r"^spec\.yaml:13: members\.m: it failed on these rows: ValueError: told to"),
        (NAN, NonFiniteRowError, "row 0 got no finite answer from m"),
    ):
        (tmp_path / "rows.json").write_text(json.dumps({"row": [[1, command, 1]]}))
        with pytest.raises(error, match=said):
            try_spec(tmp_path / "spec.yaml", tmp_path / "rows.json")


def test_what_cannot_be_loaded_or_asked_is_said(pair_spec):
    wrong = {**pair_spec, "members": {**pair_spec["members"]}}
    wrong["members"]["a"] = {**wrong["members"]["a"], "config": {"shfit": 1}}
    with pytest.raises(SpecError, match=r"members\.a\.config\.shfit: .* has no such parameter; did you mean 'shift'"):
        try_spec(wrong, {"x": ROWS}, folder=FACTORIES)
    with pytest.raises(RequestError, match="'c' is no member that reads the request alone; choose from a, b"):
        try_spec(pair_spec, {"x": ROWS}, folder=FACTORIES, member="c")
    with pytest.raises(RequestError, match="'y' is no input of the model; it reads x"):
        try_spec(pair_spec, {"y": ROWS}, folder=FACTORIES)
