"""Copies of a revision's files on several nodes before it goes live: one of them may die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray

from quorate.deployments.control.artifacts.bringing import bring, bring_all, has_all
from quorate.deployments.control.artifacts.holders import Holders, alive
from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.errors import DeployError
from quorate.deployments.records.kept_files import KeptFiles

COPIES = 3


class Spreading:
    """Under way from the time that it is made; this node has the files, or has begun to receive them.

    Each node has them from the one before, which passes on what arrives.
    """

    def __init__(self, files: KeptFiles, to_stay: bool = True, copies: int = COPIES):
        """Args:
        to_stay: these are files of a revision; no folder that only shows what is on its way.
        copies: on so many nodes, this one among them.
        """
        here, held = ray.util.get_node_ip_address(), set(Holders(ClusterStore()).of(files.name))
        others = sorted(set(alive()) - {here}, key=lambda node: (node not in held, node))
        self._waiting: dict[str, Any] = {}
        before = here
        for node in others[: copies - 1] if files.files else ():
            remote: Any = ray.remote(num_cpus=0, max_retries=0)(bring_all if to_stay else bring)
            self._waiting[node] = remote.options(resources={f"node:{node}": 0.001}).remote(files, (before, here))
            before = node

    def wait(self, timeout_s: float) -> None:
        """Until the copies are there. That a node died meanwhile keeps nothing from going live.

        Raises:
            DeployError: it takes longer.
        """
        if not self._waiting:
            return
        _, late = ray.wait([*self._waiting.values()], num_returns=len(self._waiting), timeout=timeout_s)
        if late:
            nodes = ", ".join(node for node, waiting in self._waiting.items() if waiting in late)
            raise DeployError(f"files have not reached {nodes} after {timeout_s:g} s; give --timeout more")


def spread_like(files: KeptFiles, before: Path, timeout_s: float = 60.0) -> None:
    """Have nodes that hold one folder hold another, of which they have nearly all; what is new is on this node.

    One that does not take it in time takes it later, see ``keep_copies``.
    """
    here, holders = ray.util.get_node_ip_address(), Holders(ClusterStore()).of(before)
    remote: Any = ray.remote(num_cpus=0, max_retries=0)(bring_all)
    elsewhere = [node for node in holders if node != here][: COPIES - (here in holders)]
    waiting = [remote.options(resources={f"node:{node}": 0.001}).remote(files, (here,)) for node in elsewhere]
    if here in holders:
        bring_all(files)
    if waiting:
        ray.wait(waiting, num_returns=len(waiting), timeout=timeout_s)


def keep_copies(files: KeptFiles, anyway: bool = False) -> None:
    """Where nodes have died, or come back empty, have others take their copies.

    Called on every node that has doors, now and then. Those that have not all files themselves ask nobody anything.

    Args:
        anyway: look although this node has not all of them; they may be scattered.

    Raises:
        MissingArtifactError: no node has one of them any more.
    """
    here_too = has_all(files)
    if not files.files or not (here_too or anyway):
        return
    holders = Holders(ClusterStore()).of(files.name)
    if len(holders) < min(COPIES, len(alive())) and (here_too or not holders):
        bring_all(files)
        Spreading(files)
