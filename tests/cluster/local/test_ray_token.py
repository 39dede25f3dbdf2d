"""The token of one cluster is shown while it is talked to, and forgotten afterwards."""

import os

import pytest

from quorate.cluster.local import ray_token

USERS = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "mine", "RAY_AUTH_TOKEN_PATH": ""}


@pytest.fixture
def read_again(monkeypatch):
    """How often Ray was made to read the environment again; it is not, here: a cluster may run in this process."""
    seen = []
    monkeypatch.setattr(ray_token, "_read_again", lambda: seen.append({n: os.environ.get(n) for n in USERS}))
    for name, value in USERS.items():
        monkeypatch.setenv(name, value)
    return seen


def test_the_users_own_variables_come_back(read_again, tmp_path):
    with ray_token.showing_token(tmp_path / "token"):
        shown = {name: os.environ.get(name) for name in USERS}
    assert shown == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": f"{tmp_path}/token"}
    assert {name: os.environ.get(name) for name in USERS} == USERS
    assert read_again == [shown, USERS]


def test_without_a_token_the_environment_is_the_users(read_again):
    with ray_token.showing_token(None):
        assert {name: os.environ.get(name) for name in USERS} == USERS
    assert read_again == []
