"""What replicas say of themselves: a late one is left out where somebody looks, and an error where somebody acts."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray import serve

from quorate.deployments.control import describe as describe_module
from quorate.deployments.control.describe import describe, describe_fusion
from quorate.deployments.errors import DeployError

SELF = {"pid": 1}


@pytest.fixture
def cluster(monkeypatch):
    """Sets the state of an application ``app`` and what its replicas answer."""

    def make(state: str, replies: list[Any]):
        status = SimpleNamespace(applications={"app": SimpleNamespace(status=SimpleNamespace(value=state))})
        monkeypatch.setattr(serve, "status", lambda: status)
        replicas = SimpleNamespace(call=lambda method, timeout_s: replies)
        monkeypatch.setattr(describe_module, "Replicas", lambda application: replicas)

    return make


def test_a_running_replica_that_is_late_is_not_taken_for_one_that_does_not_run(cluster):
    cluster("RUNNING", [SELF, TimeoutError()])
    assert describe_fusion("app") == [SELF]
    with pytest.raises(DeployError, match="app runs, but a replica has not answered for 30 s"):
        describe("app")


@pytest.mark.parametrize(
    ("state", "replies"), [("DEPLOYING", [TimeoutError(), SELF]), ("RUNNING", [RuntimeError("died"), SELF])]
)
def test_a_replica_that_starts_or_died_is_left_out(cluster, state, replies):
    cluster(state, replies)
    assert describe("app") == describe_fusion("app") == [SELF]


@pytest.mark.parametrize(("name", "state"), [("another", "RUNNING"), ("app", "DEPLOY_FAILED")])
def test_what_does_not_run_says_nothing(cluster, name, state):
    cluster(state, [SELF])
    assert describe(name) == describe_fusion(name) == []
