"""What the parameters of a request mean."""

import math

import numpy as np
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.server.parameters import read_deadline_s, read_explain, read_members, read_priority
from quorate.deployments.wire.inference import InferRequest


def request(deadline_s=None, **parameters):
    return InferRequest("m", {"x": np.zeros(1)}, parameters=parameters, deadline_s=deadline_s)


@pytest.mark.parametrize(
    ("asked", "deadline_s"),
    [
        (request(), None),
        (request(0.5), 0.5),
        (request(deadline_ms=50), 0.05),
        (request(timeout=2_000), 0.002),
        (request(0.5, deadline_ms=50, timeout=60_000), 0.05),
        (request(0.01, deadline_ms=50), 0.01),
        (request(timeout=0, deadline_ms=0), None),
    ],
)
def test_the_soonest_deadline_counts(asked, deadline_s):
    assert read_deadline_s(asked) == deadline_s


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "50"])
def test_a_deadline_is_a_number(value):
    with pytest.raises(RequestError, match="deadline_ms is"):
        read_deadline_s(request(deadline_ms=value))


@pytest.mark.parametrize(("value", "level"), [(0, 2), (1, 1), (2, 2), (3, 3), (4, 2)])
def test_a_priority_without_a_level_is_the_default(value, level):
    assert read_priority({"priority": value}) == level


@pytest.mark.parametrize("value", [-1, 1.0, True, "1"])
def test_a_priority_is_a_whole_number(value):
    with pytest.raises(RequestError, match="parameter priority"):
        read_priority({"priority": value})


def test_explain_is_true_or_false():
    assert read_explain({"explain": True})
    assert not read_explain({})
    with pytest.raises(RequestError, match="give true or false"):
        read_explain({"explain": 1})


def test_members_are_names_of_fused_members_each_once():
    assert read_members({}, ("a", "b")) is None
    assert read_members({"members": "b, a,b"}, ("a", "b", "c")) == ("b", "a")
    with pytest.raises(RequestError, match="'d', which is not fused; choose from a, b"):
        read_members({"members": "a,d"}, ("a", "b"))
    with pytest.raises(RequestError, match="commas"):
        read_members({"members": 1}, ("a", "b"))
