"""The Python client: names and arrays in one line, the server's errors as our own, retries that are asked for."""

import pickle
import time

import numpy as np
import pytest

from quorate.deployments import Client, errors
from quorate.deployments.errors import RemoteError

ROW = np.zeros((1, 2), np.float32)


def test_arrays_are_inputs_and_the_rest_are_parameters(pair):
    with Client(pair.http, model="pair") as client:
        named = client.infer(x=ROW, members="b", deadline_ms=4000)
        mapped = client.infer("pair", {"x": ROW}, members="b")
    assert named.parameters["members_used"] == "b"
    np.testing.assert_array_equal(named.outputs["fused"], mapped.outputs["fused"])


def test_a_call_without_a_model_says_so(pair):
    with Client(pair.http) as client, pytest.raises(errors.RequestError, match="no model is named"):
        client.infer(x=ROW)


@pytest.mark.parametrize(
    ("model", "parameters", "kind", "status"),
    [
        ("nobody", {}, errors.NotFoundError, 404),
        ("pair", {"members": "nobody"}, errors.RequestError, 400),
        ("pair", {"timeout": 1}, errors.DeadlineError, 504),
    ],
)
def test_what_the_server_met_is_raised_as_its_own_kind(pair, model, parameters, kind, status):
    with Client(pair.http) as client, pytest.raises(kind) as error:
        client.infer(model, {"x": ROW}, **parameters)
    assert isinstance(error.value, RemoteError)
    assert error.value.status == status
    again = pickle.loads(pickle.dumps(error.value))
    assert (type(again), str(again)) == (type(error.value), str(error.value))


@pytest.mark.long
def test_an_overloaded_server_is_asked_again_after_the_time_it_wants(busy):
    handler, url = busy
    handler.refusals = 1
    started = time.monotonic()
    with Client(url, model="busy", retries=2) as client:
        assert client.metadata() == {"name": "busy"}
    assert handler.asked == 2
    assert time.monotonic() - started >= 1


@pytest.mark.long
def test_retries_end_with_the_servers_own_error_and_its_wish(busy):
    handler, url = busy
    handler.refusals = 9
    with Client(url, model="busy", retries=1) as client, pytest.raises(errors.OverloadedError) as error:
        client.metadata()
    assert handler.asked == 2
    assert error.value.retry_after_s == 1


def test_without_retries_a_refusal_is_final(busy):
    handler, url = busy
    with Client(url, model="busy") as client, pytest.raises(RemoteError, match="503: the queue is full"):
        client.metadata()
    assert handler.asked == 1
