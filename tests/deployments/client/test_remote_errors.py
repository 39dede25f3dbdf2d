"""Every error of the server is the same error at the client, whatever else has its status."""

import pickle

import pytest

from quorate.deployments import errors
from quorate.deployments.client.remote_errors import Told, refusal
from quorate.deployments.server.http.replies import error_reply
from quorate.fusion.errors import QuorumError

RAISED = [
    errors.RequestError("no"),
    errors.UnknownModelError("m", "n"),
    errors.UnsupportedError("no"),
    errors.BodySizeError("is", 3),
    errors.NonFiniteRowError(2, "a", "NaN"),
    errors.UnauthenticatedError("no"),
    errors.ForbiddenError("no"),
    errors.UnavailableError("no"),
    errors.ConflictError("no"),
    errors.OverloadedError("the queue", 3, 0.5),
    errors.DeadlineError("1", "0"),
    QuorumError("2 members", "1"),
]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_an_error_of_the_server_is_caught_as_what_it_was(raised):
    status, headers, body = error_reply(raised)
    assert isinstance(body, bytes)
    said = {name.decode(): value.decode() for name, value in headers}
    told = Told(said.get("retry-after", ""), said["error-code"], said["error-kind"])
    found = refusal(status, body, told)
    # What has no finer kind is caught as the class above it.
    family = type(raised) if type(raised) is not errors.UnknownModelError else errors.NotFoundError
    assert isinstance(found, family)
    assert isinstance(found, errors.RemoteError)
    assert (found.status, found.text) == (status, str(raised))
    assert type(pickle.loads(pickle.dumps(found))) is type(found)


def test_other_servers_errors_are_told_by_their_status():
    assert isinstance(refusal(503, b"full", Told("3")), errors.RemoteOverloadedError)
    assert type(refusal(418, b"tea")) is errors.RemoteRequestError
    assert type(refusal(502, b"<html>")) is errors.RemoteError
