"""An ensemble as Ray Serve applications: one per member, so that changing one restarts no other, one for the fusion."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.exceptions import RayServeException

from quorate.deployments.control import door_records
from quorate.deployments.control import registry as published
from quorate.deployments.control.directory import member_app
from quorate.deployments.control.fusion_replica import FusionReplica
from quorate.deployments.control.registry import Publication
from quorate.deployments.control.rollout import CONTROL_TIMEOUT_S, Candidate, own_words
from quorate.deployments.errors import ClusterError, DeployError
from quorate.deployments.members.replica import MemberReplica
from quorate.deployments.security.doors import Doors, at_port
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import pin
from quorate.deployments.spec.schema import Replicas, Resources
from quorate.deployments.wire.datatypes import zeros

HEALTH_CHECK_PERIOD_S = 2.0
HEALTH_CHECK_TIMEOUT_S = 5.0

Progress = Callable[[dict[str, str]], None]
Check = Callable[[Candidate], None]


@dataclass(frozen=True)
class Deployed:
    """A running ensemble: where to ask it, and what runs."""

    name: str
    revision: str
    http: str
    grpc: str
    members: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def deploy(
    spec: EnsembleSpec,
    folder: Path,
    doors: Doors | None = None,
    http_port: int = 0,
    grpc_port: int = 0,
    timeout_s: float = 300.0,
    progress: Progress | None = None,
    check: Check | None = None,
) -> Deployed:
    """Deploy or update an ensemble on the Ray cluster this process is connected to; only what changed restarts.

    Changed members start beside the old ones, where there is room for both, and all requests change over at once.

    Args:
        spec: the ensemble.
        folder: what the spec's relative paths start from, on every node.
        doors: where they stand and whom they let in; None leaves those of the running ensemble as they are, and opens
            a new one's on loopback.
        http_port: 0 keeps the running ensemble's port, or takes a free one.
        grpc_port: likewise.
        timeout_s: how long members may take to load.
        progress: called with each application's state whenever one changes.
        check: looks at a new revision of a running ensemble before it goes live; see ``publish``.

    Raises:
        DeployError: something could not be started; the text says what.
    """
    spec, folder = pin(spec, folder), folder.resolve()
    running = describe_fusion(spec.name)
    opened = doors or door_records.recorded(spec.name)
    host = opened.host
    http_port = http_port or _running_port(running, "http") or free_port(host)
    grpc_port = grpc_port or _running_port(running, "grpc") or free_port(host)
    serve.start(proxy_location="Disabled")
    members = {name: _member(spec, name, folder) for name in spec.members}
    publication = Publication(spec, folder, {name: app.name for name, app in members.items()})
    fusion = _fusion(spec, opened, http_port, grpc_port)
    _start_beside(list(members.values()), timeout_s, progress)
    door_records.record(spec.name, opened)
    running = describe_fusion(spec.name)  # again: members may have taken minutes to load
    if fusion.is_what_runs(running):
        _admit(spec.name, len(running))
        if running[0]["revision"] != spec.revision:
            publish(publication, check)
    else:
        published.record(publication)
        _start([fusion], timeout_s, progress)
        _rehearse(Candidate(publication, serve.get_app_handle(spec.name), len(describe_fusion(spec.name))))
    _delete_unused(publication)
    places = {"http": at_port(host, http_port), "grpc": at_port(host, grpc_port)}
    for replica in describe_fusion(spec.name):  # says the address that others reach, where host stands for all
        places = {door: replica[door] for door in places}
    http = f"{'https' if opened.tls else 'http'}://{places['http']}"
    return Deployed(spec.name, spec.revision, http, places["grpc"], _replica_counts(publication))


def rollback(name: str, timeout_s: float = 300.0) -> EnsembleSpec:
    """Publish the revision before the live one, which is dropped: a second rollback goes back further.

    Raises:
        ClusterError: there is none.
        DeployError: its members could not be started again, or a replica refused it.
    """
    known = published.history(name)
    if len(known) < 2 or known[-2].spec.wiring != known[-1].spec.wiring:
        raise ClusterError(f"'{name}' has no earlier revision to go back to; deploy the spec you want instead")
    earlier = known[-2]
    _start_beside([_member(earlier.spec, member, earlier.folder) for member in earlier.apps], timeout_s, None)
    publish(earlier, dropping=known[-1].spec.revision)
    _delete_unused(earlier)
    return earlier.spec


def publish(publication: Publication, check: Check | None = None, dropping: str = "") -> None:
    """Swap rule, weights, deadline, quorum or members on all fusion replicas while requests run.

    Every replica first builds the new revision; only when all have, they use it. Members that are new must run.

    Args:
        publication: of the same inputs, classes and serving as the running ensemble.
        check: looks at the revision before it goes live; what it raises keeps the old one.
        dropping: a revision to take out of the history.

    Raises:
        DeployError: a replica refused; nothing has changed.
        UnavailableError: another publication is under way.
    """
    name = publication.spec.name
    with published.one_at_a_time(name):
        candidate = Candidate(publication, serve.get_app_handle(name), len(describe_fusion(name)))
        candidate.prepare()
        try:
            _rehearse(candidate)
            if check is not None:
                check(candidate)
            published.record(publication, dropping)
        except BaseException:
            candidate.discard()
            raise
        candidate.commit()


def _rehearse(candidate: Candidate) -> None:
    """Answer zeros once: members that read others could not be tried when they were loaded.

    Raises:
        DeployError: a member fails on them, or gives what its readers cannot use.
    """
    spec = candidate.spec
    if all(source in spec.inputs for member in spec.members.values() for source in member.inputs):
        return
    try:
        candidate.probe({name: zeros(tensor.datatype, tensor.shape, 1) for name, tensor in spec.inputs.items()})
    except DeployError as error:
        if ":error" in str(error) or ":shape" in str(error):  # others, a late member say, are no mistake of the spec
            fix = "mend what it reads or its config, and deploy again (quorate status has its own words)"
            raise DeployError(f"{spec.name} does not answer an example of zeros: {error}; {fix}") from None


def _admit(name: str, expected: int) -> None:
    """Let every fusion replica read whose tokens open its doors now."""
    replies = serve.get_app_handle(name).broadcast("admit").results(timeout_s=CONTROL_TIMEOUT_S, return_exceptions=True)
    if [reply for reply in replies if reply is not True] or len(replies) < expected:
        raise DeployError(f"not all of {expected} fusion replicas of {name} took the new tokens; deploy again")


def delete(name: str) -> None:
    """Take an ensemble down: first the doors, then the members.

    Raises:
        ClusterError: there is no such ensemble.
    """
    applications = _applications(name)
    if not applications:
        raise ClusterError(f"no ensemble '{name}' runs here; quorate status lists those that do")
    doors, *members = sorted(applications, key=len)
    serve.delete(doors)
    with ThreadPoolExecutor(max(1, len(members))) as pool:  # each waits until its replicas have drained
        list(pool.map(serve.delete, members))
    published.forget(name)
    door_records.forget(name)


def ensembles() -> list[str]:
    """Names of the ensembles that run on this cluster."""
    return sorted(name for name in serve.status().applications if "." not in name)


def describe_fusion(name: str) -> list[dict[str, Any]]:
    """What each fusion replica says of itself; empty when the ensemble does not run."""
    return _describe(name)


def describe_member(ensemble: str, member: str) -> list[dict[str, Any]]:
    """What each of a member's replicas says of itself."""
    known = published.history(ensemble)
    return _describe(known[-1].apps[member]) if known and member in known[-1].apps else []


def _describe(application: str) -> list[dict[str, Any]]:
    status = serve.status().applications.get(application)
    if status is None or status.status.value not in ("RUNNING", "UNHEALTHY", "DEPLOYING"):
        return []
    try:
        replies = serve.get_app_handle(application).broadcast("describe").results(timeout_s=5, return_exceptions=True)
    except (RayServeException, TimeoutError):
        return []
    return [reply for reply in replies if isinstance(reply, dict)]


def _running_port(replicas: list[dict[str, Any]], door: str) -> int:
    """The port that an ensemble's door listens on; 0 when it does not run."""
    return int(replicas[0][door].rpartition(":")[2]) if replicas else 0


def free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise DeployError(
                f"no port of {host} can be had here ({error.strerror}); give an address of this machine"
            ) from None
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class _App:
    """One Serve application to run, and a fingerprint of everything that decides whether it must be replaced."""

    name: str
    deployment: type
    arguments: tuple[Any, ...]
    replicas: Replicas
    resources: Resources
    circumstances: tuple[Any, ...] = ()  # arguments that call for no restart when they change

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.arguments, self.replicas, self.resources)).encode()).hexdigest()[:16]

    def is_what_runs(self, replicas: list[dict[str, Any]]) -> bool:
        """Whether there are replicas, by what they say of themselves, and all of them are of exactly this."""
        return bool(replicas) and all(replica["fingerprint"] == self.fingerprint for replica in replicas)

    def has_room(self) -> bool:
        """Whether the cluster has place for all its first replicas."""
        available = ray.available_resources()
        needs = {"CPU": self.resources.num_cpus, "GPU": self.resources.num_gpus}
        return all(available.get(kind, 0.0) >= amount * self.replicas.min for kind, amount in needs.items())

    def target(self) -> serve.RunTarget:
        """Serve's word for it. A surge starts new replicas before the old stop, where there is room for both."""
        deployment = serve.deployment(
            **_COMMON,
            name=(*self.name.split("."), self.name)[1],  # a member's own name; the fusion's is the ensemble's
            max_surge_percent=100 if self.has_room() else 0,
            ray_actor_options=actor_options(self.resources),
            request_router_config=RequestRouterConfig(request_router_class=_ROUTER),  # type: ignore[arg-type]
            **_replicas(self.replicas),
        )(self.deployment)
        return serve.RunTarget(deployment.bind(*self.arguments, *self.circumstances, self.fingerprint), self.name, None)


def _member(spec: EnsembleSpec, name: str, folder: Path) -> _App:
    member = spec.members[name]
    here = (str(folder), str(Path.cwd()))
    app = _App("", MemberReplica, (spec.job(name).model_dump_json(),), member.replicas, member.resources, here)
    return replace(app, name=member_app(spec.name, name, app.fingerprint))


def _fusion(spec: EnsembleSpec, doors: Doors, http_port: int, grpc_port: int) -> _App:
    arguments = (spec.name, spec.wiring, doors.host, http_port, grpc_port, doors.tls)
    return _App(spec.name, FusionReplica, arguments, spec.serving.replicas, spec.serving.resources)


def _runs(app: _App) -> bool:
    """Whether this runs already: ``serve.run`` would replace its replicas all the same."""
    return app.is_what_runs(_describe(app.name))


def _start(apps: list[_App], timeout_s: float, progress: Progress | None) -> None:
    """Run those that do not run yet as they should, and wait for them."""
    changed = [app for app in apps if not _runs(app)]
    if changed:
        targets = [app.target() for app in changed]
        serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
        _wait([app.name for app in changed], timeout_s, progress)


_ROUTER = "quorate.deployments.control.directory:DirectoryRouter"
_COMMON: dict[str, Any] = {
    "health_check_period_s": HEALTH_CHECK_PERIOD_S,
    "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
    "graceful_shutdown_timeout_s": 20.0,
    "graceful_shutdown_wait_loop_s": 0.1,
    "max_constructor_retry_count": 1,
    "max_ongoing_requests": 100,
}


def actor_options(resources: Resources) -> dict[str, Any]:
    """Ray's words for what one replica holds."""
    options: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    if resources.accelerator_type:
        options["accelerator_type"] = resources.accelerator_type
    if resources.labels:
        options["label_selector"] = dict(resources.labels)
    return options


def _replicas(replicas: Replicas) -> dict[str, Any]:
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


def _start_beside(members: list[_App], timeout_s: float, progress: Progress | None) -> None:
    """Start members that do not run yet; where there is no room for the new one too, the old one goes first."""
    for app in members:
        ensemble, name, _ = app.name.split(".")
        old = [found for found in _applications(f"{ensemble}.{name}") if found != app.name]
        if old and not _runs(app) and not app.has_room():
            for found in old:
                serve.delete(found)
    _start(members, timeout_s, progress)


def _delete_unused(publication: Publication) -> None:
    """Stop the members that the live revision does not ask."""
    for name in set(_applications(publication.spec.name)) - {publication.spec.name, *publication.apps.values()}:
        serve.delete(name)


def _applications(ensemble: str) -> list[str]:
    return [n for n in serve.status().applications if n == ensemble or n.startswith(f"{ensemble}.")]


def _replica_counts(publication: Publication) -> dict[str, int]:
    counts = {}
    applications = serve.status().applications
    for name, app in publication.apps.items():
        deployments = applications[app].deployments
        counts[name] = sum(d.replica_states.get("RUNNING", 0) for d in deployments.values())  # type: ignore[call-overload]
    return counts


def _wait(names: list[str], timeout_s: float, progress: Progress | None) -> None:
    """Wait until all applications run; the first that fails ends the wait with its own words."""
    until = time.monotonic() + timeout_s
    shown: dict[str, str] = {}
    while True:
        applications = serve.status().applications
        states = {name: applications[name].status.value if name in applications else "NOT_STARTED" for name in names}
        if progress is not None and states != shown:
            progress(states)
            shown = states
        for name in names:
            if states[name] in ("DEPLOY_FAILED", "UNHEALTHY"):
                messages = [applications[name].message, *(d.message for d in applications[name].deployments.values())]
                raise DeployError(f"{name} did not start: {own_words(' '.join(messages))}")
        if all(state == "RUNNING" for state in states.values()):
            return
        if time.monotonic() > until:
            late = ", ".join(name for name in names if states[name] != "RUNNING")
            raise DeployError(f"{late} not ready after {timeout_s:g} s; see quorate status, or give --timeout more")
        time.sleep(0.1)
