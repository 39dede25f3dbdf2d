"""Three machines that are one Ray cluster, what is told to drivers on them, and clients that ask from outside."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.three_nodes.asking import Asking
from tests.cluster.three_nodes.drivers import Driver
from tests.cluster.three_nodes.load import Plan, to_line
from tests.cluster.three_nodes.machine import DISK, ROOT, Machine, Network, address, environment, wait_for
from tests.cluster.three_nodes.oracle import DEADLINE_S, FOLDER, Weights

HEAD = 1
PLACES = (1, 2, 3)
GCS = f"{address(HEAD)}:6379"
_REDIS = f"{address(254)}:6379"
_GCS_SERVER = "gcs/gcs_server"
_RAY = (sys.executable, "-m", "ray.scripts.scripts", "start")
_SIZE = ("--num-cpus", "8", "--object-store-memory", "100000000", "--include-log-monitor", "false")
_HEAD = ("--head", "--port", "6379", "--temp-dir", f"{DISK}/ray", "--no-monitor")
_DASHBOARD = ("--include-dashboard", "true", "--dashboard-host", "0.0.0.0", "--dashboard-port", "8265")
JOBS = f"http://{address(HEAD)}:8265"
OPERATOR = 4  # the place of a machine that is no node
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0",
    "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "180",  # raylets outlive a GCS that is away for less
    # Three nodes start slowly on one machine that does other things, too.
    "RAY_agent_register_timeout_ms": "120000", "RAY_raylet_start_wait_time_s": "120",
}  # fmt: skip
_numbers = itertools.count(1, 1_000_000)
# Requests a second, few enough for any machine.
RATE = float(os.environ.get("QUORATE_RATE", "20"))


class ThreeNodes:
    """The cluster, up while the context lasts.

    Attributes:
        nodes: its machines by place; the first has the head of Ray.
        outside: where clients are.
        own: by place, what is different in the environment of what is started there from now on.
    """

    def __init__(
        self, folder: Path, env: Mapping[str, str] | None = None, redis: bool = True, dashboard: bool = False,
        start_folder: Path = ROOT,
    ):  # fmt: skip
        """Args:
        folder: for logs and the machines' disks.
        env: of everything that runs there.
        redis: whether the head keeps what it knows outside of its machine, where there is a ``redis-server``.
        dashboard: whether it has one, and with it Ray's Jobs API.
        start_folder: where the nodes are started.
        """
        self._start_folder = start_folder
        self.with_dashboard = dashboard
        self.folder = folder
        self.with_redis = redis and shutil.which("redis-server") is not None
        self._env = environment({**_ENVIRONMENT, **(env or {})}, unset=("RAY_ADDRESS", "CUDA_VISIBLE_DEVICES"))
        self.own: dict[int, dict[str, str]] = {}
        self._stack = contextlib.ExitStack()
        self._drivers: dict[int, Driver] = {}
        self.nodes: dict[int, Machine] = {}

    def __enter__(self) -> ThreeNodes:
        with self._stack:
            self.outside = self._machine("outside")
            self.network = Network(self.outside)
            if self.with_redis:
                self._start_redis()
            for place in PLACES:
                self.nodes[place] = self._machine(f"node{place}")
                self.network.plug_in(self.nodes[place], place)
            self.start_ray(HEAD)
            self.start_ray(*PLACES[1:])
            if self.with_dashboard:
                wait_for(self._dashboard_answers, "the dashboard answers", 300)
            self._stack = self._stack.pop_all()
        return self

    def _dashboard_answers(self) -> bool:
        """Its processes, a dozen, take a minute to start where the machine does other things as well."""
        asking = "import sys, httpx; httpx.get(sys.argv[1], timeout=10)"
        try:
            self.nodes[HEAD].run(sys.executable, "-c", asking, f"{JOBS}/api/version")
        except RuntimeError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        for driver in self._drivers.values():
            driver.stop()
        self._stack.close()

    def driver(self, place: int = HEAD) -> Driver:
        """The one that lives on a node."""
        if place not in self._drivers:
            self._drivers[place] = self.new_driver(place)
        return self._drivers[place]

    def new_driver(self, place: int) -> Driver:
        """Another; ``stop`` it."""
        env = {**self._env, **self.own.get(place, {})}
        return Driver(self.nodes[place], GCS, env, self.folder / f"driver{place}.log")

    def quorate(self, place: int, *words: str) -> subprocess.Popen[str]:
        """The command line on a node, against this cluster."""
        home = str(self.nodes[place].disk / "home")
        command = [sys.executable, "-c", "from quorate.cluster.cli.main import main; main()", *words, "--address", GCS]
        return subprocess.Popen(
            self.nodes[place].command(*command, folder=self.folder), env={**self._env, "QUORATE_HOME": home}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def operator(self) -> Machine:
        """A machine that is no node, plugged in beside them."""
        machine = self._machine("operator")
        self.network.plug_in(machine, OPERATOR)
        return machine

    def quorate_from(self, machine: Machine, *words: str, **env: str) -> subprocess.Popen[str]:
        """The command line on a machine that has the bare package: neither Ray nor torch, and no node."""
        hidden = "import sys; sys.modules.update(dict.fromkeys(['ray', 'torch']))"
        command = [sys.executable, "-c", f"{hidden}; from quorate.cluster.cli.main import main; main()", *words]
        return subprocess.Popen(
            machine.command(*command, "--address", JOBS, folder=Path("/")), text=True,
            env={**self._env, "QUORATE_HOME": f"{DISK}/home", "HOME": DISK, **env},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def spec_file(self, spec: Mapping[str, Any]) -> str:
        """A file that holds it, the factories beside it; every node sees them, whatever becomes of its own disk."""
        file = self.folder / f"{next(_numbers)}.yaml"
        file.write_text(json.dumps(spec))
        for factory in (ROOT / FOLDER).glob("*.py"):
            (self.folder / factory.name).write_text(factory.read_text())
        return str(file)

    @contextlib.contextmanager
    def asking(
        self, deployed: Mapping[str, Any], model: str, revisions: dict[str, Weights], seed: int, rate: float = RATE,
        places: tuple[int, ...] = PLACES, commanded: tuple[int, int, int] = (0, 0, 0), first: int = 0,
        tries: int = 2, env: Mapping[str, str] | None = None, width: int = 3,
    ) -> Iterator[Asking]:  # fmt: skip
        """Have clients ask while the context lasts.

        Args:
            deployed: what ``deploy`` returned.
            revisions: the weights of all that may answer, those that are published meanwhile among them.
            places: of the nodes whose doors they know.
            first: the number of the first request; one that nobody else has asked for where it is 0.
            tries: how many doors a client asks.
            env: of the clients, beside that of everything.
            width: numbers of a row.
        """
        http_port, grpc_port = (int(deployed[door].rpartition(":")[2]) for door in ("http", "grpc"))
        run = next(_numbers) % (1 << 40)
        first, log = first or run, self.folder / f"load{run}.jsonl"
        doors = tuple((address(place), http_port, grpc_port) for place in places)
        plan = Plan(model, doors, rate, first, DEADLINE_S + 2, seed, str(log), commanded, tries, width)
        errors = self.folder / "load.log"
        everywhere = {**self._env, **(env or {})}
        process = self.outside.python("tests.cluster.three_nodes.load", env=everywhere, log=errors)
        assert process.stdin
        assert process.stdout
        process.stdin.write(to_line(plan))
        assert process.stdout.readline() == "ready\n", errors.read_text()
        asking = Asking(process, log, len(doors))
        try:
            wait_for(lambda: log.exists() and log.read_text().count("\n") > 10, "clients ask")
            yield asking
        finally:
            asking.end(revisions)

    def add(self, place: int) -> Machine:
        """A new machine, which is no node until ``start_ray``."""
        self.nodes[place] = self._machine(f"node{place}")
        self.network.plug_in(self.nodes[place], place)
        return self.nodes[place]

    def remove(self, place: int) -> None:
        """It is switched off for good."""
        self.switch_off(place)
        del self.nodes[place]

    def switch_off(self, place: int) -> None:
        """As when a node's power fails."""
        driver = self._drivers.pop(place, None)
        self.nodes[place].switch_off()
        if driver is not None:  # it has ended with its machine, and is waited for
            driver.stop()

    def switch_on(self, place: int) -> None:
        """The node is back, with what was on its disk, and joins the cluster."""
        self.nodes[place].switch_on()
        self.network.plug_in(self.nodes[place], place)
        self.start_ray(place)

    def kill_gcs(self) -> list[str]:
        """Kill the head's server of metadata; returns what ``start_gcs`` wants."""
        command = self.gcs_command()
        (pid,) = self.nodes[HEAD].pids(_GCS_SERVER)
        self.nodes[HEAD].signal(pid)
        wait_for(lambda: not self.gcs_runs(), "the GCS is gone")
        return command

    def gcs_command(self) -> list[str]:
        """What started the head's server of metadata that runs."""
        (pid,) = self.nodes[HEAD].pids(_GCS_SERVER)
        return self.nodes[HEAD].run("cat", f"/proc/{pid}/cmdline").split("\0")[:-1]

    def gcs_runs(self) -> bool:
        """Whether there is one."""
        return bool(self.nodes[HEAD].pids(_GCS_SERVER))

    def start_gcs(self, command: list[str]) -> None:
        """Start it again as it was."""
        line = shlex.join(command)
        self.nodes[HEAD].run("sh", "-c", f"{line} >{DISK}/gcs.log 2>&1 </dev/null &", env=self._gcs_env())

    def processes(self) -> dict[int, dict[int, str]]:
        """All of them, by place and number."""
        return {place: node.processes() for place, node in self.nodes.items()}

    def _machine(self, name: str) -> Machine:
        machine = Machine(name, self.folder / name)
        self._stack.callback(machine.switch_off)
        return machine

    def _start_redis(self) -> None:
        words = ("redis-server", "--port", "6379", "--bind", address(254), "--protected-mode", "no", "--save", "")
        self.outside.run("sh", "-c", f"cd {DISK}; {shlex.join(words)} >redis.log 2>&1 </dev/null &")

    def start_ray(self, *places: int, attempts: int = 3) -> None:
        """Have machines be nodes.

        Ray 2.60 gives its agents 15 s to start, however busy the machine is: then the node is started anew.
        """
        starting = {place: self._starting_ray(place) for place in places}
        said = {place: process.communicate(timeout=600)[0] for place, process in starting.items()}
        failed = [place for place, process in starting.items() if process.returncode]
        assert attempts > 1 or not failed, f"Ray does not start on nodes {failed}: {[said[place] for place in failed]}"
        for place in failed:
            self.nodes[place].switch_off()
            self.nodes[place].switch_on()
            self.network.plug_in(self.nodes[place], place)
        if failed:
            self.start_ray(*failed, attempts=attempts - 1)

    def _starting_ray(self, place: int) -> subprocess.Popen[str]:
        me = ("--node-ip-address", address(place))
        dashboard = _DASHBOARD if self.with_dashboard else ("--include-dashboard", "false")
        words = (*_HEAD, *dashboard) if place == HEAD else ("--address", GCS)
        env = {**self._gcs_env(), **self.own.get(place, {})}
        return subprocess.Popen(
            self.nodes[place].command(*_RAY, *words, *me, *_SIZE, folder=self._start_folder), env=env,
            text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def _gcs_env(self) -> dict[str, str]:
        return {**self._env, "RAY_REDIS_ADDRESS": _REDIS} if self.with_redis else self._env


def seed() -> int:
    """Of a run: that of QUORATE_SEED, so that a run can be repeated, or a new one. It is printed where a test fails."""
    found = int(os.environ.get("QUORATE_SEED") or int.from_bytes(os.urandom(3), "big"))
    print(f"QUORATE_SEED={found} repeats this run")
    return found


def interrupt(process: subprocess.Popen[str]) -> None:
    """As Ctrl-C does to what ``command`` runs; its parent only waits for it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGINT)
