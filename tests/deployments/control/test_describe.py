"""What replicas say of themselves: a late one is left out where somebody looks, and an error where somebody acts."""

from types import SimpleNamespace
from typing import Any

import pytest

from quorate.deployments.control import describe as describe_module
from quorate.deployments.control.describe import (
    applications,
    describe,
    describe_fusion,
    describe_member,
    describe_members,
)
from quorate.deployments.control.ray_private import AppState
from quorate.deployments.errors import DeployError
from quorate.deployments.records.registry import Registry
from tests.deployments.support.memory_store import MemoryStore
from tests.deployments.support.publications import record

SELF = {"pid": 1}


@pytest.fixture
def serving(monkeypatch):
    """Sets the states of applications and what their replicas answer; the registry knows ``kept``."""
    store = MemoryStore()
    Registry(store).write(record())
    monkeypatch.setattr(describe_module, "ClusterStore", lambda: store)

    def make(states: dict[str, str], replies: list[Any]):
        found = {name: AppState(state, "") for name, state in states.items()}
        monkeypatch.setattr(describe_module, "app_states", lambda: found)
        replicas = SimpleNamespace(call=lambda method, timeout_s: replies)
        monkeypatch.setattr(describe_module, "Replicas", lambda apps: replicas)

    return make


def test_a_running_replica_that_is_late_is_not_taken_for_one_that_does_not_run(serving):
    serving({"app": "RUNNING"}, [SELF, TimeoutError()])
    assert describe_fusion("kept") == describe_member("kept", "a") == [SELF]
    assert describe_members("kept") == {"a": [SELF]}
    with pytest.raises(DeployError, match="app runs, but a replica has not answered for 30 s"):
        describe(["app"])


@pytest.mark.parametrize(
    ("state", "replies"), [("DEPLOYING", [TimeoutError(), SELF]), ("RUNNING", [RuntimeError("died"), SELF])]
)
def test_a_replica_that_starts_or_died_is_left_out(serving, state, replies):
    serving({"app": state}, replies)
    assert describe(["app"]) == [SELF]


def test_what_is_not_deployed_says_nothing(serving):
    serving({}, [SELF])
    assert describe_fusion("another") == describe_member("another", "a") == describe_member("kept", "z") == []
    assert describe_members("another") == {}


def test_only_its_own_applications_are_an_ensembles(serving):
    ours = ["kept.@10-0-0-1.12345678", "kept.a.12345678"]
    theirs = ["kept", "kept.a", "kept.a.release", "keptx.a.12345678", "xkept.a.12345678", "kept.a.b.12345678"]
    serving({**dict.fromkeys([*ours, *theirs], "RUNNING"), "kept.b.12345678": "DELETING"}, [])
    assert applications("kept") == ours
