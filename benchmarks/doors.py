"""What the HTTP door, the engine and the members take of a request, and beside it what an older checkout takes.

    OMP_NUM_THREADS=1 python benchmarks/doors.py [--before PYTHON] [--replicas 2] [--rounds 9] [--clients 1 8 64]

Three perceptrons in processes of their own behind one fusion server, without Ray, asked by wrk in a closed loop: a row
of JSON a request. ``--before`` is the Python of an environment that has another version of Quorate (a checkout of its
own). ``--replicas`` adds as many fusion servers that listen on one port and ask the same members. Every round measures
all of them once, in another order; ratios are of a round's own pairs: their median, and the middle half.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "serving_peers")]

from bodies import INFER  # noqa: E402
from load import Loads  # noqa: E402

from benchmarks.engine import PEERS, SPEC, serve_member  # noqa: E402
from benchmarks.tracing import start_child  # noqa: E402

NOW, BEFORE = "now", "before"
Found = dict[int, dict[str, float]]  # by the number of clients


def serve(folder: Path, http_port: int) -> None:
    """A fusion server before the members whose sockets are in a folder, until standard input closes."""
    from quorate.deployments.engine.engine import Engine
    from quorate.deployments.routing.replica import Address
    from quorate.deployments.security.access import Doorkeeper
    from quorate.deployments.security.doors import Doors
    from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings

    def find(app, on_replicas):  # type: ignore[no-untyped-def]
        on_replicas({"only": Address("only", "here", str(folder / app))})
        return lambda: None

    settings = ServerSettings("127.0.0.1", http_port, 0, Doorkeeper(Doors()))
    server = FusionServer(
        settings, lambda served: Engine(served.spec, served.folder, "here", apps=served.apps), find
    )  # fmt: skip
    server.start(Served(SPEC, PEERS, {name: name for name in SPEC.members}))
    print(server.http_port, flush=True)
    sys.stdin.read()
    os._exit(0)


class System:
    """Members, and fusion servers that share a port."""

    def __init__(self, python: str, replicas: int = 1):
        folder = tempfile.mkdtemp(prefix="q")
        members = [start_child(__file__, "--member", n, f"{folder}/{n}", python=python) for n in SPEC.members]
        first = start_child(__file__, "--serve", folder, "0", python=python)
        port = first.said.strip()  # type: ignore[attr-defined]
        more = [start_child(__file__, "--serve", folder, port, python=python) for _ in range(replicas - 1)]
        self.url, self.children = f"http://127.0.0.1:{port}", [*members, first, *more]
        self._fusion = [psutil.Process(child.pid) for child in (first, *more)]
        self._members = [psutil.Process(child.pid) for child in members]

    def measure(self, loads: Loads, clients: int, seconds: int) -> dict[str, float]:
        before = _cpu_s(self._fusion), _cpu_s(self._members)
        found = loads.http(self.url + INFER, "json", clients, seconds)
        if found.errors:
            sys.exit(f"{found.errors} requests of {found.requests} were not answered")
        each = 1e6 / found.requests
        return {
            "p50 ms": found.p50_ms,
            "rate /s": found.rate,
            "fusion CPU us": each * (_cpu_s(self._fusion) - before[0]),
            "members CPU us": each * (_cpu_s(self._members) - before[1]),
        }


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def report(rounds: Sequence[dict[str, Found]], base: str) -> None:
    for clients in rounds[0][base]:
        print(f"\n| {clients} clients | " + " | ".join(f"{name} | of {base}" for name in rounds[0] if name != base)
              + f" | {base} |\n|" + "---|" * (2 * len(rounds[0])))  # fmt: skip
        for what in rounds[0][base][clients]:
            cells = []
            for name in rounds[0]:
                values = [one[name][clients][what] for one in rounds]
                cells += [f"{statistics.median(values):,.4g}"] if name == base else [
                    f"{statistics.median(values):,.4g}", ratio(rounds, name, base, clients, what)
                ]  # fmt: skip
            first = [cells.pop(0)] if next(iter(rounds[0])) == base else []
            print(f"| {what} | " + " | ".join([*cells, *first]) + " |")


def ratio(rounds: Sequence[dict[str, Found]], name: str, base: str, clients: int, what: str) -> str:
    values = [one[name][clients][what] / one[base][clients][what] for one in rounds]
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3f} ({low:.3f} - {high:.3f})"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--before", metavar="PYTHON")
    options.add_argument("--replicas", type=int, default=1)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=int, default=1)
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    options.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--member", nargs=2, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.member:
        serve_member(arguments.member[0], Path(arguments.member[1]))
        return
    if arguments.serve:
        serve(Path(arguments.serve[0]), int(arguments.serve[1]))
        return
    systems = {BEFORE: System(arguments.before)} if arguments.before else {}
    systems[NOW] = System(sys.executable)
    if arguments.replicas > 1:
        systems[f"{arguments.replicas} replicas"] = System(sys.executable, arguments.replicas)
    base = next(iter(systems))
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((16, 1, *SPEC.inputs["x"].shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        loads = Loads(list(rows), Path(folder))
        rounds: list[dict[str, Found]] = []
        for number in range(arguments.rounds + 1):  # the first warms up
            one: dict[str, Found] = {}
            for name in random.sample(list(systems), len(systems)):
                one[name] = {c: systems[name].measure(loads, c, arguments.seconds) for c in arguments.clients}
            if number:
                rounds.append({name: one[name] for name in systems})
        report(rounds, base)
    for system in systems.values():
        for child in reversed(system.children):
            child.kill()


if __name__ == "__main__":
    main()
