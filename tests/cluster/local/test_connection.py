"""Connecting to clusters that are not there."""

import socket

import pytest

from quorate.cluster.local.connection import connected
from quorate.deployments.errors import ClusterError

pytestmark = pytest.mark.long  # Ray is imported


def test_a_head_that_is_away_is_said_at_once_and_not_after_all_that_ray_tries():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ClusterError, match=rf"^no Ray cluster answers at 127.0.0.1:{port} \(.*refused.*\); check"):
        connected(f"127.0.0.1:{port}").__enter__()


def test_an_address_that_is_none_is_said():
    with pytest.raises(ClusterError, match=r"^no Ray cluster answers at nowhere \(.*nowhere.*\); check --address"):
        connected("nowhere").__enter__()
