"""An ensemble as Ray Serve applications: one per member, so that changing one restarts no other, one for the fusion."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from quorate.deployments.control.describe import applications, describe
from quorate.deployments.control.fusion_deployment import FusionDeployment
from quorate.deployments.control.member_deployment import MemberDeployment
from quorate.deployments.control.placement import actor_options
from quorate.deployments.control.rollout import own_message
from quorate.deployments.errors import DeployError
from quorate.deployments.security.doors import Doors
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import Replicas, Resources

HEALTH_CHECK_PERIOD_S = 2.0
HEALTH_CHECK_TIMEOUT_S = 5.0

Progress = Callable[[dict[str, str]], None]

_ROUTER = "quorate.deployments.control.directory:DirectoryRouter"
_COMMON: dict[str, Any] = {
    "health_check_period_s": HEALTH_CHECK_PERIOD_S,
    "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
    "graceful_shutdown_timeout_s": 20.0,
    "graceful_shutdown_wait_loop_s": 0.1,
    "max_constructor_retry_count": 1,
    "max_ongoing_requests": 100,
}


@dataclass(frozen=True)
class ServeApp:
    """One Serve application to run.

    Attributes:
        arguments: of the deployment's constructor.
        circumstances: arguments that call for no restart when they change.
    """

    name: str
    deployment: type
    arguments: tuple[Any, ...]
    replicas: Replicas
    resources: Resources
    circumstances: tuple[Any, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Of everything that decides whether it must be replaced."""
        return hashlib.sha256(repr((self.arguments, self.replicas, self.resources)).encode()).hexdigest()[:16]

    def is_what_runs(self, replicas: list[dict[str, Any]]) -> bool:
        """Whether there are replicas, by what they say of themselves, and all of them are of exactly this."""
        return bool(replicas) and all(replica["fingerprint"] == self.fingerprint for replica in replicas)

    def fits(self, available: Mapping[str, float]) -> bool:
        """Whether there is room for all its first replicas in what a cluster has free."""
        needs = {"CPU": self.resources.num_cpus, "GPU": self.resources.num_gpus}
        return all(available.get(kind, 0.0) >= amount * self.replicas.min for kind, amount in needs.items())

    def target(self, surge: bool) -> serve.RunTarget:
        """What Serve is asked to run.

        Args:
            surge: start new replicas before the old ones stop.
        """
        deployment = serve.deployment(
            **_COMMON,
            name=self.name.split(".")[1] if "." in self.name else self.name,  # the member's or the ensemble's
            max_surge_percent=100 if surge else 0,
            ray_actor_options=actor_options(self.resources),
            request_router_config=RequestRouterConfig(request_router_class=_ROUTER),  # type: ignore[arg-type]
            **scaling(self.replicas),
        )(self.deployment)
        return serve.RunTarget(deployment.bind(*self.arguments, *self.circumstances, self.fingerprint), self.name, None)


def member_application(spec: EnsembleSpec, name: str, folder: Path) -> ServeApp:
    """A member's; its name is of this state of the member.

    A changed member is another application: it starts beside the old one, and no answer mixes the two.

    Args:
        folder: what the spec's relative paths start from.
    """
    member = spec.members[name]
    folders = (str(folder), str(Path.cwd()))
    job = spec.job(name).model_dump_json()
    app = ServeApp("", MemberDeployment, (job,), member.replicas, member.resources, folders)
    return replace(app, name=f"{spec.name}.{name}.{app.fingerprint[:8]}")


def fusion_application(spec: EnsembleSpec, doors: Doors, http_port: int, grpc_port: int) -> ServeApp:
    """The fusion's; only what restarts it is in its fingerprint, so a new revision of the same wiring is not."""
    arguments = (spec.name, spec.wiring, doors.host, http_port, grpc_port, doors.tls)
    return ServeApp(spec.name, FusionDeployment, arguments, spec.serving.replicas, spec.serving.resources)


def scaling(replicas: Replicas) -> dict[str, Any]:
    """How many replicas, as Serve's options."""
    if replicas.min == replicas.max:
        return {"num_replicas": replicas.min}
    policy = AutoscalingPolicy(policy_function="quorate.deployments.control.autoscaling:scale_by_load")
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=replicas.min,
            max_replicas=replicas.max,
            upscale_delay_s=replicas.upscale_delay_s,
            downscale_delay_s=replicas.downscale_delay_s,
            policy=policy,
        )
    }


def start(apps: Iterable[ServeApp], timeout_s: float, progress: Progress | None = None) -> None:
    """Run those that do not run yet as they should, and wait for them.

    ``serve.run`` would replace the replicas of the others all the same.

    Raises:
        DeployError: one did not start.
    """
    changed = [app for app in apps if not app.is_what_runs(describe(app.name))]
    if changed:
        targets = [app.target(surge=app.fits(ray.available_resources())) for app in changed]
        serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
        wait_until_running([app.name for app in changed], timeout_s, progress)


def start_beside(members: Iterable[ServeApp], timeout_s: float, progress: Progress | None = None) -> None:
    """Start members that do not run yet; where there is no room for the new one too, the old one goes first.

    Raises:
        DeployError: one did not start.
    """
    members = list(members)
    for app in members:
        ensemble, name, _ = app.name.split(".")
        old = [found for found in applications(f"{ensemble}.{name}") if found != app.name]
        if old and not app.is_what_runs(describe(app.name)) and not app.fits(ray.available_resources()):
            for found in old:
                serve.delete(found)
    start(members, timeout_s, progress)


def delete_unused(ensemble: str, used: Iterable[str]) -> None:
    """Stop the applications of members that the live revision does not ask.

    Args:
        used: those that it asks.
    """
    for name in set(applications(ensemble)) - {ensemble, *used}:
        serve.delete(name)


def wait_until_running(names: list[str], timeout_s: float, progress: Progress | None) -> None:
    """Wait until all applications run.

    Raises:
        DeployError: one failed, with its own message, or they took too long.
    """
    until = time.monotonic() + timeout_s
    shown: dict[str, str] = {}
    while True:
        found = serve.status().applications
        states = {name: found[name].status.value if name in found else "NOT_STARTED" for name in names}
        if progress is not None and states != shown:
            progress(states)
            shown = states
        for name in names:
            if states[name] in ("DEPLOY_FAILED", "UNHEALTHY"):
                messages = [found[name].message, *(d.message for d in found[name].deployments.values())]
                raise DeployError(f"{name} did not start: {own_message(' '.join(messages))}")
        if all(state == "RUNNING" for state in states.values()):
            return
        if time.monotonic() > until:
            late = ", ".join(name for name in names if states[name] != "RUNNING")
            raise DeployError(f"{late} not ready after {timeout_s:g} s; see quorate status, or give --timeout more")
        time.sleep(0.1)
