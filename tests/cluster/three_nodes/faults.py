"""What is done to a cluster that serves, and how long it is waited for that it mends."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.cluster.three_nodes.cluster import HEAD, PLACES, ThreeNodes
from tests.cluster.three_nodes.drivers import CommandError
from tests.cluster.three_nodes.machine import address, wait_for
from tests.cluster.three_nodes.oracle import Weights

CONTROLLER = "ray::ServeController"
# How a change says that it was not made.
REFUSALS = ("ClusterError", "ConflictError", "DeployError", "UnavailableError")


def door_process(cluster: ThreeNodes, ensemble: str, place: int) -> int:
    """The fusion replica that holds an ensemble's doors on a node; 0 for none."""
    node = address(place).replace(".", "-")
    return max(cluster.nodes[place].pids(f"ray::ServeReplica:{ensemble}.@{node}"), default=0)


def door_processes(cluster: ThreeNodes, ensemble: str) -> dict[int, int]:
    """Of every node."""
    return {place: door_process(cluster, ensemble, place) for place in PLACES}


def member_processes(cluster: ThreeNodes, ensemble: str, member: str = "") -> list[tuple[int, int]]:
    """Where a member's replicas are, or all members', as (place, number)."""
    title = f"ray::ServeReplica:{ensemble}.{member}"
    found = {place: cluster.nodes[place].pids(title) for place in cluster.nodes}
    doors = door_processes(cluster, ensemble)
    return [(place, pid) for place, pids in found.items() for pid in pids if pid != doors[place]]


def kill_controller(cluster: ThreeNodes) -> None:
    """Kill Serve's controller, and wait until Ray has started it again."""
    head = cluster.nodes[HEAD]
    (pid,) = head.pids(CONTROLLER)
    head.signal(pid)
    wait_for(lambda: head.pids(CONTROLLER) not in ([], [pid]), "another controller")


def kill_door(cluster: ThreeNodes, ensemble: str, place: int) -> None:
    """Kill the fusion replica of a node, once there is one."""
    wait_for(lambda: door_process(cluster, ensemble, place), f"a door on {address(place)}", 120)
    cluster.nodes[place].signal(door_process(cluster, ensemble, place))


def until_done(change: Callable[[], Any], timeout_s: float = 180) -> float:
    """Make a change; where it is refused because of what is away for now, again. Returns how long that took.

    Raises:
        CommandError: what it was refused with at last.
    """
    began = time.monotonic()
    while True:
        try:
            change()
        except CommandError as error:
            if error.kind not in REFUSALS or time.monotonic() - began > timeout_s:
                raise
            time.sleep(0.2)
        else:
            return time.monotonic() - began


class Faults:
    """Faults that can be made one after another, each mended before the next one.

    Attributes:
        kinds: their names.
    """

    def __init__(self, cluster: ThreeNodes, ensemble: str, weights: Sequence[Weights]):
        """Args:
        weights: what publications switch between.
        """
        self._cluster, self._ensemble, self._weights = cluster, ensemble, itertools.cycle(weights)
        self._gcs_command = cluster.gcs_command()
        made: dict[str, Callable[[random.Random], Iterator[None]]] = {
            "kill a member": self._kill_member, "kill a door": self._kill_door,
            "kill the controller": self._kill_controller,
            "stop a member": self._stop_member, "stop a door": self._stop_door, "publish": self._publish,
            "cut a node off": self._cut, "deafen a node": self._deafen, "mute a node": self._mute,
            "slow a node down": self._slow_down, "switch a node off": self._switch_off,
        }  # fmt: skip
        if cluster.with_redis:
            made["kill the GCS"] = self._kill_gcs
        self._made, self.kinds = made, tuple(made)

    def make(self, kind: str, chance: random.Random) -> contextlib.AbstractContextManager[None]:
        """A fault that lasts as long as the context, or is over at once."""
        return contextlib.contextmanager(self._made[kind])(chance)

    def keep_gcs(self) -> None:
        """Start the GCS again where it has ended, as it does when it does not reach its Redis, like a supervisor."""
        if not self._cluster.gcs_runs():
            print("the GCS is started again")
            self._cluster.start_gcs(self._gcs_command)

    def _kill_member(self, chance: random.Random) -> Iterator[None]:
        for place, pid in self._some_member(chance):
            self._signal(place, pid, signal.SIGKILL)
        yield

    def _kill_door(self, chance: random.Random) -> Iterator[None]:
        kill_door(self._cluster, self._ensemble, self._some_place(chance))
        yield

    def _kill_controller(self, _: random.Random) -> Iterator[None]:
        wait_for(lambda: self._cluster.nodes[HEAD].pids(CONTROLLER), "a controller")
        kill_controller(self._cluster)
        yield

    def _stop_member(self, chance: random.Random) -> Iterator[None]:
        yield from self._stopped(*self._some_member(chance))

    def _stop_door(self, chance: random.Random) -> Iterator[None]:
        place = self._some_place(chance)
        wait_for(lambda: door_process(self._cluster, self._ensemble, place), f"a door on {address(place)}", 120)
        yield from self._stopped((place, door_process(self._cluster, self._ensemble, place)))

    def _publish(self, _: random.Random) -> Iterator[None]:
        fusion = {"weights": next(self._weights)}
        until_done(lambda: self._cluster.driver().do("publish", name=self._ensemble, fusion=fusion))
        yield

    def _cut(self, chance: random.Random) -> Iterator[None]:
        place = self._some_place(chance)
        self._cluster.network.cut(place)
        yield
        self._cluster.network.join(place)

    def _deafen(self, chance: random.Random) -> Iterator[None]:
        yield from self._shaped(chance, self._cluster.network.deafen)

    def _mute(self, chance: random.Random) -> Iterator[None]:
        yield from self._shaped(chance, self._cluster.network.mute)

    def _slow_down(self, chance: random.Random) -> Iterator[None]:
        yield from self._shaped(chance, lambda place: self._cluster.network.slow_down(place, "1mbit"))

    def _switch_off(self, chance: random.Random) -> Iterator[None]:
        place = self._some_place(chance, but=HEAD)
        self._cluster.switch_off(place)
        yield
        self._cluster.switch_on(place)

    def _kill_gcs(self, _: random.Random) -> Iterator[None]:
        self._cluster.kill_gcs()
        yield
        self.keep_gcs()

    def _shaped(self, chance: random.Random, shape: Callable[[int], None]) -> Iterator[None]:
        place = self._some_place(chance)
        shape(place)
        yield
        self._cluster.network.lift(place)

    def _stopped(self, *processes: tuple[int, int]) -> Iterator[None]:
        for place, pid in processes:
            self._signal(place, pid, signal.SIGSTOP)
        yield
        for place, pid in processes:
            self._signal(place, pid, signal.SIGCONT)

    def _signal(self, place: int, pid: int, number: int) -> None:
        """To a process that may have ended, or been replaced."""
        if pid in self._cluster.nodes[place].processes():
            with contextlib.suppress(RuntimeError):
                self._cluster.nodes[place].signal(pid, number)

    def _some_place(self, chance: random.Random, but: int = 0) -> int:
        place = chance.choice([place for place in PLACES if place != but])
        print(f"on node {place}")
        return place

    def _some_member(self, chance: random.Random) -> list[tuple[int, int]]:
        """One, or none where there are none."""
        found = member_processes(self._cluster, self._ensemble)
        return [chance.choice(found)] if found else []
