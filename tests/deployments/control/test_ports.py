"""Which ports doors get, on this machine alone and with records in a dict."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from quorate.deployments import Doors
from quorate.deployments.control.placement import Node
from quorate.deployments.control.ports import choose_ports, door_nodes
from quorate.deployments.errors import DeployError
from quorate.deployments.records.registry import Registry
from quorate.deployments.security.doors import bind
from quorate.deployments.spec.schema import Resources
from tests.deployments.support.memory_store import MemoryStore
from tests.deployments.support.publications import record

HOST = "127.0.0.1"
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.fixture
def registry():
    return Registry(MemoryStore())


def chosen(registry, asked=(0, 0), ensemble="new", host=HOST):
    return choose_ports(ensemble, host, asked, [ray.util.get_node_ip_address()], registry)


def taken():
    return socket.create_server((HOST, 0))


@pytest.mark.skipif(not RANGE.exists(), reason="not Linux")
def test_ports_of_a_new_ensemble_are_free_and_none_that_a_connection_of_this_machine_may_take(registry):
    low = int(RANGE.read_text().split()[0])
    for port in chosen(registry):
        assert port < low
        bind(HOST, port).close()


def test_an_ensemble_keeps_its_ports(registry):
    registry.write(record())
    assert chosen(registry, ensemble="kept") == (8000, 8001)


def test_a_port_that_was_asked_for_is_taken(registry):
    with taken() as listener:
        free = listener.getsockname()[1]
    assert chosen(registry, (free, 0))[0] == free


def test_one_port_for_both_doors_is_refused(registry):
    with pytest.raises(DeployError, match="port 7000 was given for both HTTP and gRPC; give two ports"):
        chosen(registry, (7000, 7000))


def test_a_port_that_something_else_holds_is_refused_with_its_node(registry):
    with taken() as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            DeployError, match=rf"port {port} of 127\.0\.0\.1 cannot be had on node .* \(.*in use\); give"
        ):
            chosen(registry, (port, 0))


@pytest.mark.parametrize("theirs", [HOST, "0.0.0.0"])
def test_a_port_of_another_ensemble_is_refused_with_its_name(registry, theirs):
    registry.write(replace(record(), doors=Doors(theirs, insecure=theirs != HOST)))
    for asked in ((8000, 0), (0, 8001)):
        with pytest.raises(DeployError, match="is a door of ensemble 'kept'; give another port, or take that one down"):
            chosen(registry, asked)


def test_an_address_of_another_machine_has_no_free_port(registry):
    with pytest.raises(DeployError, match=r"no port of 203\.0\.113\.1 can be had on node .*give an address of it"):
        chosen(registry, host="203.0.113.1")


def test_nodes_that_say_so_get_no_doors_and_neither_do_those_that_cannot_hold_one(monkeypatch):
    nodes = [
        Node("head", 0.0, 0.0, labels={"quorate.io/doors": "no"}),
        Node("small", 0.2, 0.0),
        Node("burst", 8.0, 1.0, labels={"quorate.io/doors": "no", "zone": "a"}),
        Node("there", 8.0, 1.0, labels={"quorate.io/doors": "yes"}),
    ]
    monkeypatch.setattr("quorate.deployments.control.ports.nodes_alive", lambda: nodes)
    assert door_nodes(Resources()) == ["there"]
    assert door_nodes(Resources(num_cpus=0)) == ["small", "there"]
    with pytest.raises(DeployError, match="no node can hold a fusion replica"):
        door_nodes(Resources(labels={"zone": "a"}))
