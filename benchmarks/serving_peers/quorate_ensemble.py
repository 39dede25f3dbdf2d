"""The ensemble on Quorate; with a member that sleeps, also beside it the same ensemble without that member."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from bodies import MODEL
from child import asked, ray_cluster, serve_until_told
from mlp import NUM_CLASSES

from quorate.deployments.control.deploy import Deployed, delete, deploy
from quorate.deployments.control.describe import describe_fusion
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec

FOLDER = Path(__file__).parent
CPUS = {"num_cpus": 0.1}
PLACEMENTS = "placement" in EnsembleSpec.model_fields


def ensemble(
    name: str, members: dict[str, dict[str, Any]], features: int, placement: str = "apart", deadline_s: float = 1.0
) -> dict[str, Any]:
    """A spec."""
    return {
        "name": name,
        "inputs": {"x": {"datatype": "FP32", "shape": [features]}},
        "classes": [str(number) for number in range(NUM_CLASSES)],
        "members": {n: {"resources": CPUS, **member, "inputs": ["x"]} for n, member in members.items()},
        "fusion": {"rule": "mean", "deadline_s": deadline_s, "quorum": 1},
        "serving": {"resources": CPUS},
        **({"placement": placement} if PLACEMENTS else {}),
    }


def mlps(members: int, features: int) -> dict[str, dict[str, Any]]:
    """Members of a spec."""
    return {
        f"mlp{seed}": {"model": "mlp:build", "config": {"seed": seed, "features": features}} for seed in range(members)
    }


def main() -> None:
    arguments = asked(placement="apart", deadline_s=1.0, sleep_s=0.0)
    with ray_cluster():
        serve(arguments)


def serve(arguments: Namespace) -> None:
    members = mlps(arguments.members, arguments.features)
    how = (arguments.features, arguments.placement, arguments.deadline_s)
    details: dict[str, Any] = {}
    if arguments.sleep_s:
        *_, last = members
        healthy = {name: member for name, member in members.items() if name != last}
        details["healthy_url"] = _deploy("healthy", healthy, *how).http
        members[last] = {"model": "mlp:Sleepy", "config": {**members[last]["config"], "sleep_s": arguments.sleep_s}}
    deployed = _deploy(MODEL, members, *how)
    fusion_pid = describe_fusion(MODEL)[0]["pid"]
    serve_until_told(deployed.http, grpc=deployed.grpc, fusion_pid=fusion_pid, **details)
    for name in [MODEL, *(["healthy"] if arguments.sleep_s else [])]:
        delete(name)


def _deploy(name: str, members: dict[str, dict[str, Any]], *how: Any) -> Deployed:
    return deploy(parse_spec(ensemble(name, members, *how)), FOLDER)


if __name__ == "__main__":
    main()
