"""An ensemble as one Serve application that a file names: what a RayService's ``serveConfigV2`` has.

Such a file can name no applications whose number and names depend on nodes and contents, and KubeRay looks at those
alone that it named itself. So it names this one, which deploys the ensemble as ``quorate deploy`` does: it runs once
the ensemble does, fails with the ensemble's own words, and then keeps its doors on the nodes that are there.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ray import serve

from quorate.deployments.control.deploy import change_doors, deploy, plan
from quorate.deployments.control.ports import door_nodes
from quorate.deployments.control.ray_private import ClusterStore
from quorate.deployments.control.serve.moving_doors import LOOK_S, NodeWatch, follow_nodes
from quorate.deployments.control.serve.repeating import repeat
from quorate.deployments.errors import DeployError
from quorate.deployments.records.registry import Registry
from quorate.deployments.security.doors import Doors, doors_from_files
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec

_log = logging.getLogger(__name__)

# What fits on some of the nodes waits so long for the others, lest all members start on the first.
OTHER_NODES_S = 120.0
# On the head's node, which has what is mounted for it; Ray gives that node this resource, 1.0 of it.
_HEAD = {"node:__internal_head__": 0.001}


class EnsembleArguments(BaseModel):
    """What ``quorate manifest`` writes under ``args``. No secret is among it: Ray writes these to its log.

    Attributes:
        spec: as a spec file has it. With ``digests``, what lies in ``folder`` must be what they say.
        folder: what its relative paths start from, on the head's node; others get copies.
        store: a URI that keeps what the spec names too; see ``deploy``.
        auth_token_file: on the head's node; when it changes, the new tokens are admitted and the old refused.
        management_token_file: likewise; nobody manages over the network where it is not there.
        feedback_token_file: likewise; labels need a management token where it is not there.
        tls_cert: on every node, likewise ``tls_key``.
        nodes: with doors that are expected at the start.
        timeout_s: how long nodes may take to come, and then members to load.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: dict[str, Any]
    folder: Path
    store: str = ""
    host: str = "0.0.0.0"
    http_port: int = 8000
    grpc_port: int = 8001
    auth_token_file: Path | None = None
    management_token_file: Path | None = None
    feedback_token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    nodes: int = 1
    timeout_s: float = 1800.0

    @property
    def digest(self) -> str:
        """Of all that is asked for."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def doors(self) -> Doors:
        """As the files say now.

        Raises:
            CredentialError: a file cannot be used.
        """
        manages, labels = (
            file if file is not None and file.exists() else None
            for file in (self.management_token_file, self.feedback_token_file)
        )
        files = (self.auth_token_file, manages, self.tls_cert, self.tls_key)
        return doors_from_files(self.host, *files, insecure=self.insecure, feedback_token_file=labels)


def ensemble(args: Mapping[str, Any]) -> serve.Application:
    """Serve calls this with what a file has under ``args``.

    Raises:
        DeployError: names the argument that is none, or is missing.
    """
    try:
        arguments = EnsembleArguments.model_validate(dict(args))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, found["loc"]))
        raise DeployError(f"args.{place} of the application: {found['msg']}; see docs/kubernetes.md") from None
    options: dict[str, Any] = {"num_cpus": 0, "resources": _HEAD}
    deployment: Any = serve.deployment(EnsembleDeployment)
    named = deployment.options(name="ensemble", ray_actor_options=options, health_check_period_s=10.0)
    application: serve.Application = named.bind(arguments)
    return application


class EnsembleDeployment:
    """The replica: deploys the ensemble when it starts, unless that has been done, and looks after it.

    A replica that starts again, because its node or Ray's head did, must not undo what was published since; what was
    asked for is therefore kept in the cluster's store, beside the registry.
    """

    def __init__(self, arguments: EnsembleArguments):
        self._asked, self._store = arguments, ClusterStore()
        self._spec = parse_spec(arguments.spec)
        self._doors: Doors | None = arguments.doors()
        asked, _, admitted = self._store.get(self._key).decode().partition(" ")
        if asked != arguments.digest:
            self._deploy(self._doors)
            self._remember(self._doors)
        elif admitted != _digest(self._doors):  # token files changed while nobody looked
            self._doors = None
        self._node_watch = NodeWatch(gone_s=LOOK_S)  # a pod that comes back has another address
        self._looked = time.monotonic()
        repeat("ensemble", LOOK_S, self._look, f"{self._spec.name} goes on as it was")

    @property
    def _key(self) -> str:
        return f"applied/{self._spec.name}"

    def _remember(self, doors: Doors) -> None:
        """Keep what was done, for a replica that comes after this one."""
        self._doors = doors
        self._store.put(self._key, f"{self._asked.digest} {_digest(doors)}".encode())

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        late_s = time.monotonic() - self._looked - self._asked.timeout_s
        if late_s > 0:
            raise RuntimeError(f"nobody has looked after {self._spec.name} for {self._asked.timeout_s + late_s:.0f} s")

    def _deploy(self, doors: Doors) -> None:
        asked = self._asked
        check_files(self._spec, asked.folder)
        _compare(self._spec, pin(self._spec, asked.folder))
        _wait_for_nodes(self._spec, asked, lambda found: _log.info("%s waits: %s", self._spec.name, found))
        deploy(
            self._spec, asked.folder, doors, asked.http_port, asked.grpc_port, asked.timeout_s,
            progress=lambda states, seconds: _log.info("%s after %.0f s: %s", self._spec.name, seconds, states),
            store=asked.store,
        )  # fmt: skip

    def _look(self) -> None:
        """Have doors where the nodes are now, which let in whom the files name now."""
        self._looked = time.monotonic()
        record = Registry(self._store).latest(self._spec.name)
        if record is None:  # somebody has taken it down
            return
        doors = self._asked.doors()
        if doors != self._doors:
            change_doors(self._spec.name, doors, self._asked.timeout_s)
            self._remember(doors)
        else:
            follow_nodes(self._node_watch, record, LOOK_S)


def _digest(doors: Doors) -> str:
    return hashlib.sha256(repr(doors).encode()).hexdigest()


def _compare(wanted: EnsembleSpec, found: EnsembleSpec) -> None:
    """Refuse other files than those whose digests were written into the manifest.

    Raises:
        DeployError: names the first that differs.
    """
    for field, digest in wanted.digests.items():
        if found.digests.get(field) != digest:
            has = found.digests.get(field, "not there")
            raise DeployError(
                f"{field} is {has}, and the manifest is of {digest}; give the pods that file, or write it anew"
            )


def _wait_for_nodes(spec: EnsembleSpec, asked: EnsembleArguments, say: Callable[[str], None]) -> None:
    """Return once everything has a place, and all nodes are there or have had their time.

    Raises:
        DeployError: there is no place for something after all that time.
    """
    started, told = time.monotonic(), ""
    while True:
        waited_s, problem = time.monotonic() - started, _problem(spec, asked)
        if not problem:
            missing = asked.nodes - len(door_nodes(spec.serving.resources))
            if missing <= 0 or waited_s > OTHER_NODES_S:
                return
        elif waited_s > asked.timeout_s:
            raise DeployError(f"{problem}, after {waited_s:.0f} s; see the pods of its worker groups")
        found = problem or f"{missing} more nodes are expected"
        if found != told:
            say(found)
            told = found
        time.sleep(1.0)


def _problem(spec: EnsembleSpec, asked: EnsembleArguments) -> str:
    """Why it cannot be deployed on the nodes that are there now; empty where it can."""
    try:
        planned = plan(spec, asked.folder, asked.doors())
    except DeployError as error:
        return str(error)
    return next((f"no place for {app.part}: {app.problem}" for app in planned if app.problem), "")
