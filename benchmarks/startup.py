"""How long ``quorate deploy`` takes and where the time goes: from nothing, on a running cluster, 32 members, a weight.

    python benchmarks/startup.py [--rounds 3] [--only nothing running weight many]

Each deployment is the command line in a process of its own, against a local cluster of its own (QUORATE_HOME).
``nothing`` starts that cluster, too; ``running`` finds it; ``weight`` deploys the same spec with other fusion weights;
``many`` deploys 32 members. Members are tiny, so that all of it is start-up. The table says when, in seconds from the
command's start, each step was done; where processes begin, their own start is what is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from quorate.cluster.local.state import LocalCluster, belongs

SCENES = ("nothing", "running", "weight", "many")
FACTORY = """
import torch

def layer(seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(4, 2).eval()
"""
# What is noted when it returns: module, function, what it says.
NOTED = (
    ("quorate.cluster.local.cluster", "start", "cluster found"),
    ("quorate.cluster.local.connection", "_init", "driver connected"),
    ("quorate.deployments.control.deploy", "_start_serve", "Serve runs"),
    ("quorate.deployments.control.deploy", "keep_files", "files kept"),
    ("quorate.deployments.control.serve_apps", "begin", "applications asked for"),
    ("quorate.deployments.control.serve_apps", "wait_until_running", "applications run"),
    ("quorate.deployments.control.deploy", "roll_out", "published"),
    ("quorate.deployments.control.deploy", "_deployed", "described"),
    ("quorate.cluster.operations.deploy", "_deployed", "changes taken away or kept"),
    ("quorate.cluster.cli.commands.deploy", "show", "left the cluster"),
)
# Processes by a part of their command line.
PROCESSES = {
    "quorate.cluster.local.host": "host started",
    "gcs/gcs_server": "GCS started",
    "raylet/raylet": "raylet started",
    "fork_server/": "fork server started",
    "ServeController": "controller started",
}


def spec(name: str, members: int, weight: float = 0.5) -> dict[str, Any]:
    """Weights of the first and of the others."""
    names = [f"m{number}" for number in range(members)]
    rest = (1 - weight) / (members - 1)
    return {
        "name": name,
        "inputs": {"x": {"datatype": "FP32", "shape": [4]}},
        "classes": ["left", "right"],
        "members": {
            member: {
                "model": "startup_factory:layer", "config": {"seed": number}, "inputs": ["x"], "output": "logits",
                "resources": {"num_cpus": 0.1},
            }
            for number, member in enumerate(names)
        },
        "fusion": {
            "rule": "weighted_mean", "deadline_s": 5,
            "weights": {m: rest if n else weight for n, m in enumerate(names)},
        },
    }  # fmt: skip


class Noting(MetaPathFinder):
    """Has functions of ``NOTED`` say when they returned, as their modules are imported."""

    def __init__(self) -> None:
        self.marks = [("Python runs", time.time())]

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        functions = {function: says for module, function, says in NOTED if module == name}
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if functions and finder is not self)
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                for function, says in functions.items():
                    vars(module)[function] = self._noted(vars(module)[function], says)

            vars(spec.loader)["exec_module"] = exec_module
        return spec

    def note(self, says: str) -> None:
        self.marks.append((says, time.time()))

    def _noted(self, function: Callable[..., Any], says: str) -> Callable[..., Any]:
        @wraps(function)
        def noted(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            self.note(says)
            return result

        return noted


def deploy_noting(file: str) -> None:
    """The command, in this process; the last line that it writes to standard error is what was done when."""
    noting = Noting()
    sys.meta_path.insert(0, noting)
    from quorate.cluster.cli.main import main

    noting.note("command line imported")
    sys.argv = ["quorate", "deploy", file, "--json"]
    try:
        main()
    finally:
        noting.note("command ends")
        print("\n" + json.dumps(noting.marks), file=sys.stderr, flush=True)


def deploy(file: Path, home: Path) -> list[tuple[str, float]]:
    """Seconds from the command's start to each step, in order."""
    command = [sys.executable, __file__, "--child", str(file)]
    started = time.time()
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"deploy failed: {done.stdout}{done.stderr}")
    marks = [*json.loads(done.stderr.splitlines()[-1]), *began(started, home)]
    return sorted(((says, at - started) for says, at in marks), key=lambda mark: mark[1])


def began(since: float, home: Path) -> Iterator[tuple[str, float]]:
    """When processes of the cluster began that are younger; of replicas the first and the last."""
    cluster = LocalCluster(**json.loads((home / "local.json").read_text()))
    replicas: dict[str, list[float]] = {"member": [], "door": []}
    for process in psutil.process_iter(["cmdline", "create_time"]):
        line, created = " ".join(process.info["cmdline"] or ()), process.info["create_time"]
        if created < since or not (process.pid == cluster.pid or belongs(process, cluster)):
            continue
        for part, says in PROCESSES.items():
            if part in line and "start_worker" not in line:
                yield says, created
        if line.startswith("ray::ServeReplica:"):
            replicas["door" if ".@" in line else "member"].append(created)
    for what, times in replicas.items():
        if times:
            yield f"first {what}'s process", min(times)
        if len(times) > 1:
            yield f"last {what}'s process", max(times)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "QUORATE_HOME": str(home), "OMP_NUM_THREADS": "1"}


def quorate(home: Path, *words: str) -> None:
    command = [sys.executable, "-c", "from quorate.cluster.cli.main import main; main()", *words]
    subprocess.run(command, env=environment(home), capture_output=True, check=True)


def one_round(folder: Path, scenes: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
    """Each scene's steps, on one cluster."""
    home = Path(tempfile.mkdtemp(dir=folder))
    (home / "startup_factory.py").write_text(FACTORY)
    files = {
        "nothing": spec("first", 3), "running": spec("second", 3), "weight": spec("second", 3, 0.6),
        "many": spec("many", 32),
    }  # fmt: skip
    found = {}
    try:
        for scene, what in files.items():
            if scene == "nothing" or scene in scenes or (scene == "running" and "weight" in scenes):
                file = home / f"{scene}.yaml"
                file.write_text(json.dumps(what))
                found[scene] = deploy(file, home)
    finally:
        quorate(home, "down")
    return {scene: steps for scene, steps in found.items() if scene in scenes}


def show(scene: str, rounds: Sequence[list[tuple[str, float]]]) -> None:
    """Medians of when each step was done; a step that is done twice is told twice."""
    steps: dict[str, list[float]] = {}
    for found in rounds:
        seen: Counter[str] = Counter()
        for says, at in found:
            seen[says] += 1
            steps.setdefault(f"{says}{f' ({seen[says]})' if seen[says] > 1 else ''}", []).append(at)
    print(f"\n{scene}")
    before = 0.0
    for says, times in sorted(steps.items(), key=lambda step: statistics.median(step[1])):
        at = statistics.median(times)
        print(f"  {at:6.2f} s  +{at - before:5.2f}  {says} ({min(times):.2f} to {max(times):.2f})", flush=True)
        before = at


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", choices=SCENES, nargs="+", default=SCENES)
    options.add_argument("--child", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.child:
        deploy_noting(arguments.child)
        return
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    found: dict[str, list[list[tuple[str, float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        for _ in range(arguments.rounds):
            for scene, steps in one_round(Path(folder), arguments.only).items():
                found.setdefault(scene, []).append(steps)
    for scene, rounds in found.items():
        show(scene, rounds)


if __name__ == "__main__":
    main()
