"""An ensemble as Ray Serve applications: one per member, so that changing one restarts no other, one per node's doors.

The name of an application holds its fingerprint: what is changed is another application, which starts beside the old
one, and taking away what was started leaves the old one as it was.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from quorate.deployments.control.describe import describe
from quorate.deployments.control.forked_workers import REPLICA_MODULES, worker_options
from quorate.deployments.control.placement import actor_options
from quorate.deployments.control.processes.grouping import resources_of
from quorate.deployments.control.ray_private import ClusterStore, app_states
from quorate.deployments.errors import DeployError, MemberLoadError, MemberStartError
from quorate.deployments.records.kept_files import KeptFiles
from quorate.deployments.records.registry import INSIDE, LEARNING, Publication, Registry, is_inside, learning_app
from quorate.deployments.rollout.rollout import is_own, own_message, sent_error
from quorate.deployments.security.doors import Doors
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import MemberJob, Replicas, Resources

HEALTH_CHECK_PERIOD_S = 2.0
HEALTH_CHECK_TIMEOUT_S = 5.0
# That the controller makes at most, of applications of one replica each.
HEALTH_CHECKS_PER_S = 50
# Digits of a fingerprint in an application's name.
_IN_NAME = 8

# Given the state of each part that is waited for, by its name, and the seconds so far.
Progress = Callable[[dict[str, str], float], None]
_TOLD_EVERY_S = 5.0

# In place of an ensemble's name; behind an @, which no ensemble's has.
_SHARED = "shared"
# By name: a fusion replica imports what changes an ensemble, and that imports this file.
_FUSION = "quorate.deployments.control.serve.fusion_deployment:FusionDeployment"
_MEMBER = "quorate.deployments.control.serve.member_deployment:MemberDeployment"
_ONLINE = "quorate.deployments.control.serve.online_deployment:OnlineDeployment"
_ROUTER = "quorate.deployments.control.serve.directory:DirectoryRouter"
_COMMON: dict[str, Any] = {
    "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
    "graceful_shutdown_timeout_s": 20.0,
    "graceful_shutdown_wait_loop_s": 0.1,
    "max_ongoing_requests": 100,
}


@dataclass(frozen=True)
class ServeApp:
    """One Serve application to run.

    Attributes:
        deployment: its class, as ``package.module:class``.
        arguments: of the deployment's constructor.
        circumstances: arguments that call for no restart when they change.
        node: the address of the only node that it may run on; any node when empty.
        members: that it runs; none where it is the doors of a node.
    """

    name: str
    deployment: str
    arguments: tuple[Any, ...]
    replicas: Replicas
    resources: Resources
    circumstances: tuple[Any, ...] = ()
    node: str = ""
    members: tuple[str, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether it runs once for all ensembles that have the same one."""
        return is_shared(self.name)

    @property
    def fingerprint(self) -> str:
        """Of everything that decides whether it must be replaced."""
        decides = (self.arguments, self.replicas, self.resources, self.node)
        return hashlib.sha256(repr(decides).encode()).hexdigest()[:16]

    def is_what_runs(self, replicas: list[dict[str, Any]]) -> bool:
        """Whether there are replicas, by what they say of themselves, and all of them are of exactly this."""
        return bool(replicas) and all(replica["fingerprint"] == self.fingerprint for replica in replicas)

    def target(self, worker: Mapping[str, Any], check_period_s: float = HEALTH_CHECK_PERIOD_S) -> serve.RunTarget:
        """What Serve is asked to run.

        Args:
            worker: more options for Ray, on how its worker is started.
            check_period_s: between two looks at a replica's health.
        """
        deployment = _deployment(self.deployment).options(
            name=self.name.split(".")[1],
            health_check_period_s=check_period_s,
            ray_actor_options=actor_options(self.resources, self.node) | dict(worker),
            **scaling(self.replicas),
        )
        return serve.RunTarget(deployment.bind(*self.arguments, *self.circumstances, self.fingerprint), self.name, None)


def member_application(spec: EnsembleSpec, name: str, folder: Path, files: KeptFiles) -> ServeApp:
    """A member's; its name is of this state of the member, its files and its code.

    A changed member is another application: it starts beside the old one, and no answer mixes the two.

    Args:
        folder: what the spec's relative paths start from, on the machine that it is deployed from.
        files: of the whole spec.
    """
    member, job = spec.members[name], spec.job(name)
    if member.share:
        job = job.model_copy(update={"ensemble": _SHARED})
    app = ServeApp("", _MEMBER, (job.model_dump_json(),), member.replicas, member.resources, members=(name,))
    app = replace(app, name=f"{'@' if member.share else ''}{job.ensemble}.{name}.{app.fingerprint[:_IN_NAME]}")
    own = files.of(name)
    if member.share:
        own = replace(own, name=Path(app.name))
    return replace(app, circumstances=(json.dumps(own.to_json()), str(folder), str(Path.cwd())))


def group_application(spec: EnsembleSpec, members: Sequence[str], folder: Path, files: KeptFiles) -> ServeApp:
    """That of members that share a process; a change of one is another application of all. Of one it is its own."""
    if len(members) == 1:
        return member_application(spec, members[0], folder, files)
    jobs = MemberJob.written([spec.job(name) for name in members])
    replicas, resources = spec.members[members[0]].replicas, resources_of(spec, members)
    app = ServeApp("", _MEMBER, (jobs,), replicas, resources, members=tuple(members))
    name = f"{spec.name}.{_part(members)}.{app.fingerprint[:_IN_NAME]}"
    own = files.of_parts(members)
    return replace(app, name=name, circumstances=(json.dumps(own.to_json()), str(folder), str(Path.cwd())))


def inside_application(spec: EnsembleSpec, members: Sequence[str]) -> str:
    """The name of members that fusion replicas run themselves: of this state of all of them."""
    jobs = "".join(spec.job(name).model_dump_json() for name in members)
    return f"{spec.name}.{INSIDE}{_part(members)}.{hashlib.sha256(jobs.encode()).hexdigest()[:_IN_NAME]}"


def _part(members: Sequence[str]) -> str:
    """What stands for members in the name of an application; no member's name has a plus."""
    return members[0] if len(members) == 1 else f"{members[0]}+{len(members) - 1}"


def member_applications(publication: Publication) -> list[ServeApp]:
    """All of a publication, as they were started."""
    groups = [members for app, members in publication.members_by_app.items() if not is_inside(app)]
    return [group_application(publication.spec, one, publication.folder, publication.files) for one in groups]


def own_applications(shadow: Publication) -> list[ServeApp]:
    """Those of members that run for a shadow alone, as they were started: each has a process of its own."""
    return [member_application(shadow.spec, name, shadow.folder, shadow.files) for name in shadow.own]


def health_check_period_s(applications: int) -> float:
    """Serve's one controller looks at every replica: the more there are, the less often at each."""
    return max(HEALTH_CHECK_PERIOD_S, applications / HEALTH_CHECKS_PER_S)


def is_shared(app: str) -> bool:
    """Whether the application of this name runs once for all ensembles that have the same one."""
    return app.startswith(f"@{_SHARED}.")


def is_door(app: str) -> bool:
    """Whether the application of this name is the fusion and its doors on a node."""
    return app.partition(".")[2].startswith("@")


def alive_apps() -> set[str]:
    """The names of all applications that run or come up."""
    return {name for name, state in app_states().items() if state.alive}


def door_application(publication: Publication, doors: Doors, http_port: int, grpc_port: int, node: str) -> ServeApp:
    """The fusion and its doors on one node; only what restarts them is in the fingerprint, no publication is.

    Args:
        publication: what it serves until the registry has a newer one of the same wiring.
        node: its address. Ray gives it back to a node that comes back, and so do the doors.
    """
    spec = publication.spec
    arguments = (spec.name, spec.wiring, doors.host, http_port, grpc_port, doors.tls)
    first = (json.dumps(publication.to_json()), doors)
    app = ServeApp("", _FUSION, arguments, spec.serving.replicas, spec.serving.resources, first, node)
    place = node.replace(".", "-").replace(":", "-")
    return replace(app, name=f"{spec.name}.@{place}.{app.fingerprint[:_IN_NAME]}")


def online_application(spec: EnsembleSpec) -> ServeApp:
    """What learns weights from labels; what it learns, and how, it reads in the registry."""
    return ServeApp(learning_app(spec.name), _ONLINE, (spec.name,), Replicas(), Resources(num_cpus=0))


@cache
def _deployment(path: str) -> serve.Deployment:
    """Of a class, with what all its applications have in common; each that is made costs Serve 30 ms, a copy none."""
    router = RequestRouterConfig(request_router_class=_ROUTER)  # type: ignore[arg-type]
    made: serve.Deployment = serve.deployment(**_COMMON, request_router_config=router)(pkgutil.resolve_name(path))
    return made


def scaling(replicas: Replicas) -> dict[str, Any]:
    """How many replicas, as Serve's options."""
    if replicas.min == replicas.max:
        return {"num_replicas": replicas.min}
    policy = AutoscalingPolicy(policy_function="quorate.deployments.control.serve.autoscaling:scale_by_load")
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
    begun = begin(apps)
    if begun:
        wait_until_running(begun, timeout_s, progress)


def begin(apps: Iterable[ServeApp]) -> list[str]:
    """Have Serve run those that do not run yet as they should; returns their names, and of those that come up."""
    apps, alive = list(apps), alive_apps()
    said = defaultdict(list)  # by the part of a fingerprint that is in the application's name
    for reply in describe(app.name for app in apps if app.name in alive):  # all at once: one by one takes minutes
        said[reply["fingerprint"][:_IN_NAME]].append(reply)
    late = [app for app in apps if app.name not in alive or not app.is_what_runs(said[app.fingerprint[:_IN_NAME]])]
    # Run anew, those that another ensemble's deployment waits for would be replaced.
    changed = [app for app in late if not (app.shared and app.name in alive)]
    if changed:
        worker = worker_options(REPLICA_MODULES)
        serve.run_many(
            [app.target(worker, health_check_period_s(len(alive) + len(changed))) for app in changed],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
    return [app.name for app in late]


def wait_until_running(names: list[str], timeout_s: float, progress: Progress | None) -> None:
    """Wait until all applications run.

    Raises:
        DeployError: one failed, with its own message, or they took too long.
    """
    started = told = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        looked = time.monotonic()
        found, now = app_states(), time.monotonic()
        states = {name: found[name].status if name in found else "NOT_STARTED" for name in names}
        if progress is not None and (states != shown or now - told >= _TOLD_EVERY_S):
            progress({part_of(name): state for name, state in states.items()}, now - started)
            shown, told = states, now
        failures = {name: found[name].message for name in names if name in found}
        for name, failure in failures.items():
            # Serve would try again; what our own code refuses it will refuse again.
            if states[name] in ("DEPLOY_FAILED", "UNHEALTHY") or is_own(failure):
                raise _start_error(name, failure)
        if all(state == "RUNNING" for state in states.values()):
            return
        if now - started > timeout_s:
            raise _late([name for name in names if states[name] != "RUNNING"], timeout_s, failures)
        time.sleep(max(0.1, 4 * (now - looked)))  # of many applications each look costs the controller


def not_started(ensemble: str) -> dict[str, str]:
    """Why replicas of a part do not start now, by part: a member, or the doors on a node."""
    record = Registry(ClusterStore()).latest(ensemble)
    if record is None:
        return {}
    known, apps = app_states(), (*record.live.serve_apps, *record.door_apps.values())
    said = {app: known[app].message for app in apps if app in known and known[app].message}
    return {part_of(app): own_message(why) for app, why in said.items() if is_own(why) or not known[app].runs}


def part_of(app: str) -> str:
    """What the application of a name is of its ensemble: a member, or the doors on a node."""
    part = app.split(".")[1]
    if part == LEARNING:
        return "what learns online"
    return f"the doors on {part[1:].replace('-', '.')}" if is_door(app) else part


def _start_error(app: str, failure: str) -> DeployError:
    sent = sent_error(failure)
    if isinstance(sent, MemberLoadError):
        return MemberStartError(*sent.args)
    return DeployError(f"{part_of(app)} did not start: {own_message(failure)}; {_see_logs(app)}")


def _late(apps: list[str], timeout_s: float, failures: Mapping[str, str]) -> DeployError:
    late = ", ".join(map(part_of, apps))
    said = "".join(f"; {own_message(failures[app])}" for app in apps if failures.get(app))
    fix = f"give --timeout more, or see what it does: {_see_logs(apps[0])}"
    return DeployError(f"{late} {'is' if len(apps) == 1 else 'are'} not ready after {timeout_s:g} s{said}; {fix}")


def _see_logs(app: str) -> str:
    ensemble, part, _ = app.split(".")
    if is_door(app) or part == LEARNING:
        return "see Ray's logs"
    return f"quorate logs {'ENSEMBLE' if is_shared(app) else ensemble} {part}"
