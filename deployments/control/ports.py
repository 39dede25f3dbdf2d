"""On which nodes and ports an ensemble's doors stand: recorded, kept, and never another ensemble's."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from quorate.deployments.control.on_each_node import on_each
from quorate.deployments.control.placement import Node, matches, nodes_alive
from quorate.deployments.errors import DeployError
from quorate.deployments.records.registry import Record, Registry
from quorate.deployments.security.doors import WILDCARDS, bind
from quorate.deployments.spec.schema import Resources

# Of nodes that come and go with the load: a door is a replica, and the autoscaler stops no node that has one.
NO_DOORS = {"quorate.io/doors": "no"}
_TRIES = 20
# Ray's workers listen below; from the other on, where Linux has not been told otherwise, connections have their ends.
_FIRST_PORT, _EPHEMERAL = 20_000, 32_768
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def door_nodes(resources: Resources) -> list[str]:
    """The addresses of the nodes that get doors: all that are alive, can hold a fusion replica, and may.

    Raises:
        DeployError: there is none.
    """
    found = [node.name for node in nodes_alive() if _may_hold(resources, node)]
    if not found:
        raise DeployError(
            f"no node can hold a fusion replica with {resources!r}; change serving.resources or add nodes"
        )
    return found


def choose_ports(
    ensemble: str, host: str, asked: tuple[int, int], nodes: Sequence[str], registry: Registry
) -> tuple[int, int]:
    """The HTTP and the gRPC port: those asked for, else those the ensemble has, else free ones on all nodes.

    Args:
        host: that the doors bind on each node.
        asked: 0 for no port in particular.

    Raises:
        DeployError: a port is taken, by another ensemble or by something else.
    """
    others = registry.records()
    own = others.pop(ensemble, None)
    kept = (0, 0) if own is None else (own.http_port, own.grpc_port)
    ports = [port or before for port, before in zip(asked, kept, strict=True)]
    if ports[0] and ports[0] == ports[1]:
        raise DeployError(f"port {ports[0]} was given for both HTTP and gRPC; give two ports")
    moved = own is None or own.doors.host != host
    for port in filter(None, ports):
        _check_owner(host, port, others)
        if moved or port not in kept:
            _check_free(host, port, nodes, share=port in kept)
    taken = [*ports, *(port for record in others.values() for port in (record.http_port, record.grpc_port))]
    for door, port in enumerate(ports):
        if not port:
            ports[door] = _free_port(host, nodes, taken)
            taken.append(ports[door])
    return ports[0], ports[1]


def _may_hold(resources: Resources, node: Node) -> bool:
    enough = node.cpus >= resources.num_cpus and node.gpus >= resources.num_gpus
    return enough and matches(resources, node) and node.labels.items().isdisjoint(NO_DOORS.items())


def _check_owner(host: str, port: int, others: Mapping[str, Record]) -> None:
    for name, record in others.items():
        if port not in (record.http_port, record.grpc_port):
            continue
        if record.doors.host == host or record.doors.host in WILDCARDS or host in WILDCARDS:
            fix = f"give another port, or take that one down first: quorate down {name}"
            raise DeployError(f"port {port} of {host} is a door of ensemble '{name}'; {fix}")


def _check_free(host: str, port: int, nodes: Sequence[str], share: bool = False) -> None:
    for node, (_, problem) in zip(nodes, on_each(nodes, _try, host, port, share), strict=True):
        if problem:
            raise DeployError(
                f"port {port} of {host} cannot be had on node {node} ({problem}); give another, or 0 for a free one"
            )


def _free_port(host: str, nodes: Sequence[str], taken: Sequence[int]) -> int:
    """A port that is free on all nodes, and stays so while the members load that the doors wait for.

    It is none of those that the kernel gives to connections that this machine makes: one of those may be taken at once.
    """
    ports = random.sample(_lasting_ports(), _TRIES)
    for port in ports:
        found = on_each(nodes, _try, host, port, False)
        if port not in taken and not any(problem for _, problem in found):
            return port
    problems = ((node, problem) for node, (_, problem) in zip(nodes, found, strict=True) if problem)
    node, problem = next(problems, (nodes[0], "those tried are other ensembles'"))
    raise DeployError(f"no port of {host} can be had on node {node} ({problem}); give an address of it, or the ports")


def _lasting_ports() -> Sequence[int]:
    low, high = _FIRST_PORT, _EPHEMERAL
    if _PORT_RANGE.exists():
        high = int(_PORT_RANGE.read_text().split()[0])
    return range(low, high) if high - low > 10 * _TRIES else range(low, 65536)


def _try(host: str, port: int, share: bool) -> tuple[int, str]:
    """The port that could be bound, 0 for any, or why it could not."""
    try:
        with bind(host, port, share) as bound:
            return int(bound.getsockname()[1]), ""
    except OSError as error:
        return 0, str(error.strerror or error)
