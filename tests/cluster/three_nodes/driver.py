"""A driver on a node's Ray, for as long as the process lives: ``python -m tests.cluster.three_nodes.driver ADDRESS``.

Reads one line of JSON a command, ``[name, arguments]``, and writes one of what it returned or raised.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.cluster.three_nodes.oracle import FOLDER

# Admits to giving labels, where doors take them.
LABEL_TOKEN = "l" * 40


def deploy(
    spec: dict[str, Any], host: str = "0.0.0.0", folder: str = FOLDER, takes_labels: bool = False, **options: Any
) -> dict[str, Any]:
    """Deploy it with doors that other nodes reach, and on loopback with doors that take publications."""
    from quorate.deployments import Doors, parse_spec
    from quorate.deployments.control import deploy as control

    tokens = (hashlib.sha256(LABEL_TOKEN.encode()).hexdigest(),) if takes_labels else ()
    opened = Doors(host, insecure=True, feedback_tokens=tokens)
    done = control.deploy(parse_spec(spec), Path(folder), opened, **options)
    return {"revision": done.revision, "http": done.http, "grpc": done.grpc, "nodes": done.nodes}


def publish(name: str, fusion: dict[str, Any]) -> str:
    """Change the fusion; returns the revision."""
    from quorate.deployments.control import publish as control
    from quorate.deployments.records.registry import Record
    from quorate.deployments.spec.ensemble import EnsembleSpec
    from quorate.deployments.spec.patch import revise

    made = ""

    def revised(record: Record) -> EnsembleSpec:
        nonlocal made
        spec = revise(record.live.spec, json.dumps({"fusion": fusion}))
        made = spec.revision
        return spec

    control.publish(name, revised)
    return made


def rollback(name: str) -> str:
    """Go back; returns the revision."""
    from quorate.deployments.control.deploy import rollback

    return rollback(name).revision


def down(name: str) -> None:
    """Take an ensemble down."""
    from quorate.deployments.control.deploy import delete

    delete(name)


def fusion(name: str) -> list[dict[str, Any]]:
    """What fusion replicas say of themselves."""
    from quorate.deployments.control.describe import describe_fusion

    return describe_fusion(name)


def member(name: str, which: str) -> list[dict[str, Any]]:
    """What a member's replicas say of themselves."""
    from quorate.deployments.control.describe import describe_member

    return describe_member(name, which)


def record(name: str) -> tuple[int, str]:
    """The number of the newest record of an ensemble, and the revision that it says is live; none where it is down."""
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    registry = Registry(ClusterStore())
    found = registry.latest(name)
    return registry.number(name), "" if found is None else found.live.spec.revision


def doors(name: str) -> list[str]:
    """The nodes that have doors, by the newest record of an ensemble."""
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    found = Registry(ClusterStore()).latest(name)
    return [] if found is None else sorted(found.door_apps)


def holder(name: str) -> str:
    """Who changes an ensemble now, and what is done; nothing where nobody does."""
    from quorate.deployments.control.ray_private import ClusterStore

    store = ClusterStore()
    values = [json.loads(store.get(key) or b'{"over": true}') for key in store.keys(f"lease/{name}/")]
    return next((value["holder"] for value in values if not value["over"]), "")


def learned(name: str) -> dict[str, Any]:
    """What weights that learn have come to."""
    from quorate.deployments.control.describe import describe_online

    return describe_online(name, whole=False)


def learner(name: str) -> dict[str, Any]:
    """What the process that learns says of itself; nothing where none answers."""
    from quorate.deployments.control.describe import describe
    from quorate.deployments.records.registry import learning_app

    return next(iter(describe([learning_app(name)])), {})


def teach(name: str, doors: list[str], answers: int, seed: int, member: int) -> dict[str, int]:
    """Ask one door after the other for twenty rows, and give the next one labels that a member would draw for them.

    Returns:
        How many labels there were of each verdict.
    """
    import numpy as np

    from quorate.deployments import Client, Credentials
    from tests.deployments.support.factories.oracle import shares

    random, found = np.random.default_rng(seed), Counter[str]()
    clients = [Client(door, model=name, credentials=Credentials(token=LABEL_TOKEN)) for door in doors]
    for turn in range(answers):
        rows = np.zeros((20, 3), np.int64)
        rows[:, 0] = random.integers(1, 1 << 20, size=20)  # no commands
        answer = clients[turn % len(doors)].infer(row=rows)
        drawn = (shares(rows[:, 0], member).cumsum(axis=1) > random.random((20, 1))).argmax(axis=1)
        labels = [("one", "two", "three", "rest")[place] for place in drawn]
        found.update(clients[(turn + 1) % len(doors)].feedback(answer, labels).counts)
    for client in clients:
        client.close()
    return dict(found)


def ensembles() -> list[str]:
    """What runs."""
    from quorate.deployments.control.describe import ensembles

    return ensembles()


def kept() -> dict[str, str]:
    """All that Quorate keeps in the cluster's store, by its keys."""
    from quorate.deployments.control.ray_private import ClusterStore

    store = ClusterStore()
    return {key: store.get(key).decode("latin-1") for key in store.keys("")}


def applications() -> dict[str, str]:
    """The status of every application of Serve, ours or not."""
    from ray import serve

    return {name: app.status.value for name, app in serve.status().applications.items()}


def nodes() -> dict[str, bool]:
    """Whether each node is alive, by address; of one that came back, whether it is now."""
    import ray

    found: dict[str, bool] = {}
    for node in ray.nodes():
        found[node["NodeManagerAddress"]] = found.get(node["NodeManagerAddress"], False) or node["Alive"]
    return found


def drain(address: str) -> None:
    """Have Ray move everything away from a node."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    (node,) = (node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == address)
    gcs = GcsClient(address=ray.get_runtime_context().gcs_address)
    preempted = 2  # as a spot machine that is given some time, autoscaler.proto
    accepted, why = gcs.drain_node(node, preempted, "a test", int(1000 * (time.time() + 300)))
    if not accepted:
        raise RuntimeError(why)


def run_foreign(name: str) -> None:
    """Run an application of Serve that is none of ours."""
    from ray import serve

    class Foreign:
        def ping(self) -> str:
            return "pong"

    serve.start(proxy_location="Disabled")
    foreign: Any = serve.deployment(Foreign)
    serve.run(foreign.options(ray_actor_options={"num_cpus": 0.1}).bind(), name=name, route_prefix=None)


def shadow(spec: dict[str, Any], share: float, folder: str = FOLDER) -> tuple[str, str]:
    """Have a shadow that asks members of its own; returns its revision, and the application of ``c``."""
    from quorate.deployments import parse_spec
    from quorate.deployments.control.shadows import add_shadow

    added = add_shadow(parse_spec(spec), Path(folder), share=share)
    return added.spec.revision, added.apps["c"]


def shadow_rows(name: str) -> tuple[int, int, int, int]:
    """How many doors have told; of an ensemble's only shadow the rows compared, asked about, and not answered."""
    from quorate.deployments.control.shadows import recorded_shadows, shadow_states

    states = shadow_states(recorded_shadows(name))
    (found,) = states.shadows.values()
    calls = found.asked["c"]
    told = 0 if states.silent or found.refused else states.doors
    return told, sum(one.rows for one in found.outputs.values()), calls.rows, calls.failed.total()


def label(doors: list[str], model: str, answers: list[str]) -> list[str]:
    """Say that ``one`` was true, at one door after another; returns those that were accepted, or were before."""
    from quorate.deployments import Client, Credentials
    from quorate.deployments.errors import UnavailableError

    acknowledged, credentials = [], Credentials(token=LABEL_TOKEN)
    for at, answer in enumerate(answers):
        try:
            with Client(doors[at % len(doors)], model=model, timeout_s=5.0, credentials=credentials) as client:
                counts = client.feedback(answer, "one").counts
        except UnavailableError:  # that door is away
            continue
        if counts["accepted"] or counts["again"]:
            acknowledged.append(answer)
    return acknowledged


def ask_foreign(name: str) -> str:
    """What that application says."""
    from ray import serve

    return str(serve.get_app_handle(name).ping.remote().result(timeout_s=30))


def stop_foreign(name: str) -> None:
    """Delete it."""
    from ray import serve

    serve.delete(name)


_COMMANDS = {
    command.__name__: command
    for command in (
        deploy, publish, rollback, down, fusion, member, record, doors, kept, holder, ensembles, applications, nodes,
        drain, shadow, shadow_rows, label, run_foreign, ask_foreign, stop_foreign, learned, learner, teach,
    )
}  # fmt: skip


def main() -> None:
    """Do what the lines of standard input say."""
    import ray

    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints
    ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
    replies.write(json.dumps(["returned", os.getpid()]) + "\n")
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            replies.write(json.dumps(["returned", _COMMANDS[name](**arguments)]) + "\n")
        except Exception as error:
            replies.write(json.dumps(["raised", [type(error).__name__, str(error)]]) + "\n")


if __name__ == "__main__":
    main()
