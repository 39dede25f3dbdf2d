"""Ports, as far as they are chosen without a cluster."""

import socket

import pytest

from quorate.deployments.control.deploy import free_port
from quorate.deployments.errors import DeployError


def test_a_free_port_can_be_listened_on():
    with socket.create_server(("127.0.0.1", free_port("127.0.0.1"))) as listener:
        assert listener.getsockname()[1]


def test_an_address_of_another_machine_has_no_free_port():
    with pytest.raises(DeployError, match=r"no port of 203\.0\.113\.1 can be had here .*give an address of"):
        free_port("203.0.113.1")
