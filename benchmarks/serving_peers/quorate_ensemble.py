"""The ensemble on Quorate; with a member that sleeps, also beside it the same ensemble without that member."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from child import serve_until_told, start_ray
from mlp import NUM_CLASSES, NUM_FEATURES, SEEDS

from quorate.deployments.control.deploy import Deployed, delete, deploy
from quorate.deployments.control.describe import describe_fusion
from quorate.deployments.spec.files import parse_spec

FOLDER = Path(__file__).parent
CPUS = {"num_cpus": 0.1}


def deploy_members(name: str, members: dict[str, dict[str, Any]], deadline_s: float) -> Deployed:
    spec = parse_spec(
        {
            "name": name,
            "inputs": {"x": {"datatype": "FP32", "shape": [NUM_FEATURES]}},
            "classes": [str(number) for number in range(NUM_CLASSES)],
            "members": {n: {**member, "inputs": ["x"], "resources": CPUS} for n, member in members.items()},
            "fusion": {"rule": "mean", "deadline_s": deadline_s, "quorum": 1},
            "serving": {"resources": CPUS},
        }
    )
    return deploy(spec, FOLDER)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--deadline-s", type=float, default=1.0)
    options.add_argument("--sleep-s", type=float, default=0.0)
    arguments = options.parse_args()
    start_ray()
    members = {f"mlp{seed}": {"model": "mlp:build", "config": {"seed": seed}} for seed in SEEDS}
    details: dict[str, Any] = {}
    if arguments.sleep_s:
        last = f"mlp{SEEDS[-1]}"
        healthy = {name: member for name, member in members.items() if name != last}
        details["healthy_url"] = deploy_members("healthy", healthy, arguments.deadline_s).http
        members[last] = {"model": "mlp:Sleepy", "config": {"seed": SEEDS[-1], "sleep_s": arguments.sleep_s}}
    deployed = deploy_members("mlps", members, arguments.deadline_s)
    serve_until_told(deployed.http, fusion_pid=describe_fusion("mlps")[0]["pid"], **details)
    for name in ["mlps", *(["healthy"] if arguments.sleep_s else [])]:
        delete(name)


if __name__ == "__main__":
    main()
