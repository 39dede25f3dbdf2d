"""How long an ensemble of many tiny members takes to deploy, and what memory each replica holds.

    python benchmarks/many_members.py [--members 64] [--plain-members 16]

Twice in one run, each on a Ray of its own: with workers that are forked, as ``quorate`` starts them, and with workers
that are started as Ray does it, so many that they fit in the time. Time is from ``deploy`` to its return, after which
the ensemble has answered its rehearsal; Ray and Serve run by then. Memory is the median over members' replicas: USS is
a process's own, PSS its share of what it shares with others.
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
from pathlib import Path
from typing import Any

FACTORY = """
import numpy as np

def ramp(slope):
    return lambda x: np.stack([slope * x.sum(axis=1), np.zeros(len(x))], axis=1).astype(np.float32)
"""


def spec(members: int) -> dict[str, Any]:
    return {
        "name": "many",
        "inputs": {"x": {"datatype": "FP32", "shape": [4]}},
        "classes": ["left", "right"],
        "members": {
            f"m{number}": {
                "model": "many_factory:ramp", "config": {"slope": number + 1}, "inputs": ["x"], "output": "logits",
                "resources": {"num_cpus": 0.1},
            }
            for number in range(members)
        },
        "fusion": {"rule": "mean", "deadline_s": 30},
    }  # fmt: skip


def measure(members: int, plain: bool) -> dict[str, float]:
    """In a process of its own: start Ray, deploy, look at the replicas."""
    import psutil
    import ray
    from ray import serve

    from quorate.deployments import parse_spec
    from quorate.deployments.control import deploy, serve_apps
    from quorate.deployments.control.describe import describe_member
    from quorate.deployments.control.forked_workers import REPLICA_MODULES, start_ray

    with tempfile.TemporaryDirectory(prefix="q") as folder:
        Path(folder, "many_factory.py").write_text(FACTORY)
        if plain:
            vars(serve_apps)["worker_options"] = lambda modules: {}
            ray.init(num_cpus=64, include_dashboard=False, log_to_driver=False, configure_logging=False)
        else:
            start_ray(Path(folder), REPLICA_MODULES, num_cpus=64)
        serve.start(proxy_location="Disabled")
        busy, began = sum(psutil.cpu_times()[:3]), time.monotonic()
        deploy.deploy(parse_spec(spec(members)), Path(folder), timeout_s=900)
        seconds, cpu = time.monotonic() - began, sum(psutil.cpu_times()[:3]) - busy
        pids = [replica["pid"] for number in range(members) for replica in describe_member("many", f"m{number}")]
        held = [psutil.Process(pid).memory_full_info() for pid in pids]
        serve.shutdown()
        ray.shutdown()
    return {
        "members": members, "seconds": seconds, "cpu": cpu, "rss": statistics.median(h.rss for h in held) / 1e6,
        "uss": statistics.median(h.uss for h in held) / 1e6, "pss": statistics.median(h.pss for h in held) / 1e6,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--plain-members", type=int, default=16)
    parser.add_argument("--child", choices=["forked", "plain"])
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.members, given.child == "plain")), flush=True)
        return
    environment = {
        "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0",
        **os.environ,
    }  # fmt: skip
    print(f"{'workers':8} {'members':>7} {'seconds':>8} {'CPU s':>6} {'RSS':>6} {'USS':>6} {'PSS':>6}  (MB a replica)")
    for child, members in (("forked", given.members), ("plain", given.plain_members)):
        command = [sys.executable, __file__, "--child", child, "--members", str(members)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        m = json.loads(done.stdout.splitlines()[-1])
        memory = " ".join(f"{m[kind]:6.0f}" for kind in ("rss", "uss", "pss"))
        print(f"{child:8} {m['members']:7.0f} {m['seconds']:8.1f} {m['cpu']:6.1f} {memory}", flush=True)


if __name__ == "__main__":
    main()
