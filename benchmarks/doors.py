"""What the HTTP door, the engine and the members take of a request, and beside it what others take.

    OMP_NUM_THREADS=1 python benchmarks/doors.py [--systems one_process apart together] [--before PYTHON]
        [--replicas 2] [--rounds 9] [--clients 1 8 64]
    OMP_NUM_THREADS=1 python benchmarks/doors.py --profile 64 [--systems together]

Three perceptrons behind one fusion server, without Ray, asked by wrk in a closed loop: a row of JSON a request.
``apart`` has them in processes of their own, ``together`` runs them inside of the server, as its replica of Ray Serve
does; ``one_process`` is the peer of ``serving``, a plain uvicorn with all models. ``--before`` is the Python of an
environment that has another version of Quorate (a checkout of its own): each way is measured with that too.
``--replicas`` adds as many fusion servers that listen on one port and ask the same members. Every round measures all of
them once, in another order; ratios are to the first, of a round's own pairs: their median, and the middle half.

``--profile N`` shows instead, of N clients, the batches that form and where the event loop's time goes (cProfile, which
makes Python calls look dearer than they are).
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import os
import pstats
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
from system import Peer  # noqa: E402

from benchmarks.engine import PEERS, SPEC, serve_member  # noqa: E402
from benchmarks.tracing import start_child  # noqa: E402

WAYS = ("one_process", "apart", "together")
ONE_PROCESS = Peer("one_process", "one process", ("one_process.py",))
Found = dict[int, dict[str, float]]  # by the number of clients


def serve(folder: Path, http_port: int, way: str) -> None:
    """A fusion server before members whose sockets are in a folder, or that it runs itself, until its input closes.

    Each line of that begins a profile, or ends it and prints it as a line of JSON.
    """
    from quorate.deployments.engine.engine import Engine
    from quorate.deployments.routing.replica import Address
    from quorate.deployments.security.access import Doorkeeper
    from quorate.deployments.security.doors import Doors
    from quorate.deployments.server.fusion_server import FusionServer, Served, ServerSettings

    inside = _inside(folder) if way == "together" else None

    def find(app, on_replicas):  # type: ignore[no-untyped-def]
        apart = Address("only", "here", str(folder / app))
        on_replicas({"only": apart if inside is None else Address.announced(inside.address)})
        return lambda: None

    def make(served):  # type: ignore[no-untyped-def]
        apps = served.apps
        if inside is None:
            return Engine(served.spec, served.folder, "here", apps=apps)
        return Engine(served.spec, served.folder, "here", apps=apps, inside=lambda replica: inside.thread)

    settings = ServerSettings("127.0.0.1", http_port, 0, Doorkeeper(Doors()))
    server = FusionServer(settings, make, find)
    server.start(Served(SPEC, PEERS, {name: name if inside is None else "all" for name in SPEC.members}))
    print(server.http_port, flush=True)
    profiler = cProfile.Profile()
    while sys.stdin.readline():
        server.call(_profile(server, profiler, True))
        sys.stdin.readline()
        server.call(_profile(server, profiler, False))
        print(json.dumps(_profiled(profiler, server.engine.metrics.text().decode())), flush=True)
    os._exit(0)


def _inside(folder: Path):  # type: ignore[no-untyped-def]
    from quorate.deployments.logs.files import LogFile

    try:
        from quorate.deployments.members.inside.inside_members import InsideMembers
    except ImportError:  # of a version from before there was this room
        from quorate.deployments.members.inside import InsideMembers  # type: ignore[attr-defined,no-redef]
    return InsideMembers(
        [(SPEC.job(n), LogFile("doors", n, "inside")) for n in SPEC.members], PEERS, "only", "here", folder
    )


async def _profile(server, profiler: cProfile.Profile, on: bool) -> None:  # type: ignore[no-untyped-def]
    (profiler.enable if on else profiler.disable)()


def _profiled(profiler: cProfile.Profile, metrics: str) -> dict[str, str]:
    said = io.StringIO()
    pstats.Stats(profiler, stream=said).sort_stats("tottime").print_stats(60)
    wanted = ("quorate_batch_rows", "quorate_stage_seconds_sum", "quorate_stage_seconds_count")
    found = [line for line in metrics.splitlines() if line.startswith(wanted)]
    return {"profile": said.getvalue(), "metrics": "\n".join(found)}


class System:
    """Members, and fusion servers that share a port."""

    def __init__(self, way: str, python: str, replicas: int = 1):
        folder = tempfile.mkdtemp(prefix="q")
        apart = SPEC.members if way == "apart" else ()
        members = [start_child(__file__, "--member", n, f"{folder}/{n}", python=python) for n in apart]
        first = start_child(__file__, "--serve", folder, "0", way, python=python)
        port = first.said.strip()  # type: ignore[attr-defined]
        more = [start_child(__file__, "--serve", folder, port, way, python=python) for _ in range(replicas - 1)]
        self.url, self.first, self._children = f"http://127.0.0.1:{port}", first, [*members, first, *more]
        self._fusion = [psutil.Process(child.pid) for child in (first, *more)]
        self._members = [psutil.Process(child.pid) for child in members]

    def cpu_s(self) -> tuple[float, float]:
        """Of the fusion and of the members."""
        return _cpu_s(self._fusion), _cpu_s(self._members)

    def stop(self) -> None:
        for child in reversed(self._children):
            child.kill()


class OneProcess:
    """The peer, measured like a system."""

    def __init__(self) -> None:
        self._system = ONE_PROCESS.start()
        self.url, self.stop = self._system.url, self._system.stop

    def cpu_s(self) -> tuple[float, float]:
        return self._system.cpu_s(), 0.0


def measure(system: System | OneProcess, loads: Loads, clients: int, seconds: int) -> dict[str, float]:
    before = system.cpu_s()
    found = loads.http(system.url + INFER, "json", clients, seconds)
    if found.errors:
        sys.exit(f"{found.errors} requests of {found.requests} were not answered")
    fusion, members = (1e6 / found.requests * (now - then) for now, then in zip(system.cpu_s(), before, strict=True))
    return {"p50 ms": found.p50_ms, "rate /s": found.rate, "fusion CPU us": fusion, "CPU us": fusion + members}


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


def profile(system: System, loads: Loads, clients: int, seconds: int) -> None:
    """Print what ``serve`` says after a load."""
    stdin, stdout = system.first.stdin, system.first.stdout
    assert stdin is not None
    assert stdout is not None
    loads.http(system.url + INFER, "json", clients, 1)
    print("\n", end="", file=stdin, flush=True)
    print(loads.http(system.url + INFER, "json", clients, seconds))
    print("\n", end="", file=stdin, flush=True)
    for text in json.loads(stdout.readline()).values():
        print(text)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--systems", nargs="+", choices=WAYS, default=["apart"])
    options.add_argument("--before", metavar="PYTHON")
    options.add_argument("--replicas", type=int, default=1)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=int, default=1)
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    options.add_argument("--profile", type=int, metavar="N")
    options.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options.add_argument("--member", nargs=2, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.member:
        serve_member(arguments.member[0], Path(arguments.member[1]))
        return
    if arguments.serve:
        serve(Path(arguments.serve[0]), int(arguments.serve[1]), arguments.serve[2])
        return
    systems = start(arguments)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((16, 1, *SPEC.inputs["x"].shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        loads = Loads(list(rows), Path(folder))
        if arguments.profile:
            for system in systems.values():
                if isinstance(system, System):
                    profile(system, loads, arguments.profile, arguments.seconds)
        else:
            report(compare(systems, loads, arguments), next(iter(systems)))
    for system in systems.values():
        system.stop()


def start(arguments: argparse.Namespace) -> dict[str, System | OneProcess]:
    systems: dict[str, System | OneProcess] = {}
    for way in arguments.systems:
        if way == "one_process":
            systems[way] = OneProcess()
            continue
        if arguments.before:
            systems[f"{way} before"] = System(way, arguments.before)
        systems[way] = System(way, sys.executable)
        if arguments.replicas > 1:
            systems[f"{way}, {arguments.replicas} replicas"] = System(way, sys.executable, arguments.replicas)
    return systems


def compare(
    systems: dict[str, System | OneProcess], loads: Loads, arguments: argparse.Namespace
) -> list[dict[str, Found]]:
    rounds: list[dict[str, Found]] = []
    for number in range(arguments.rounds + 1):  # the first warms up
        one: dict[str, Found] = {}
        for name in random.sample(list(systems), len(systems)):
            one[name] = {c: measure(systems[name], loads, c, arguments.seconds) for c in arguments.clients}
        if number:
            rounds.append({name: one[name] for name in systems})
    return rounds


if __name__ == "__main__":
    main()
