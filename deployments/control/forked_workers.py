"""Ray with workers that are forked: one that we start, or actors and tasks on a cluster that others have started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quorate.deployments.control.ray_private import without_log_monitor
from quorate.deployments.fork_server.command import LABEL, OF_EVERY_WORKER, forking_runtime_env, nodes_that_fork

# What replicas of both kinds, and Serve's own processes, import before they answer.
REPLICA_MODULES = (
    "quorate.deployments.members.replica",
    "quorate.deployments.server.fusion_server",
    "quorate.deployments.control.serve_in_workers",
)
# Of these and what every worker imports, what does not import Ray.
BEFORE_RAY = (*(name for name in OF_EVERY_WORKER if name != "ray"), *REPLICA_MODULES[:2])


def start_ray(folder: Path, modules: Sequence[str], **options: Any) -> Any:
    """A node of our own that forks its workers and tells this process nothing of what they write.

    Args:
        folder: for a program; it must outlive the node.
        modules: what workers will import.
        options: others of ``ray.init``, which says what is returned and raised.
    """
    import ray

    with without_log_monitor(), nodes_that_fork(folder, modules) as labels:
        return ray.init(labels=labels, include_dashboard=False, log_to_driver=False, configure_logging=False, **options)


def worker_options(modules: Sequence[str]) -> dict[str, Any]:
    """Options for Ray, to be merged with others; none where workers cannot be forked, or all are.

    Where this process's job brings code along, workers have that instead, and are not forked.

    Args:
        modules: what they will import.
    """
    import ray

    of_job = ray.get_runtime_context().runtime_env
    if "py_modules" in of_job:  # code that nodes lack, which Serve's own processes would not pass on
        return {"runtime_env": {"py_modules": of_job["py_modules"]}}
    if all(node["Labels"].items() >= LABEL.items() for node in ray.nodes() if node["Alive"]):
        return {}
    environment = forking_runtime_env(modules, of_job)
    return {"runtime_env": environment} if environment else {}
