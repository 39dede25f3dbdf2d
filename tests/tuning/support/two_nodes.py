"""A sweep on a cluster of three nodes on this machine, one of which is killed in the middle; run as a process.

Ray keeps one connection in a process, so ``test_two_nodes`` calls ``main`` in one of its own.
"""

import json
import time
from typing import Any

import numpy as np
import psutil
import ray
from ray import tune
from ray.cluster_utils import Cluster

from quorate.tuning import PredictionStore, SearchSpace, Splits, digits, run_on_ray, sweep
from quorate.tuning.search.space import Family

SPACE = SearchSpace(
    name="nodes", families={"mlp": Family(width=(8, 16), depth=(1, 1))}, epochs=4, topologies=("parallel",)
)
BUDGET: dict[str, Any] = {
    "trials": 8, "member_trials": 8, "parallel": 4, "workers": 2, "check": 0,
    "objectives": ("log_loss", "memory_bytes"),
}  # fmt: skip


class Watch(tune.Callback):
    """Notes on which node each epoch runs; kills the node of trial 2 after its first epoch if ``kill``."""

    def __init__(self, cluster, raylets, kill):
        self.cluster, self.raylets, self.kill = cluster, raylets, kill
        self.used = set()

    def on_trial_result(self, iteration, trials, trial, result, **info):
        try:
            parent = psutil.Process(result["pid"]).ppid()
        except psutil.NoSuchProcess:  # it died after it had reported
            return
        if parent in self.raylets:
            self.used.add(parent)
            if self.kill and len(self.raylets) == 2 and trial.config["number"] == 2:
                self.cluster.remove_node(self.raylets.pop(parent), allow_graceful=False)


def main(folder):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in nodes}
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    cluster.wait_for_nodes()
    splits = digits()
    data = Splits(splits.train.rows(slice(0, 300)), splits.validation, splits.test)
    watch, kill = Watch(cluster, raylets, kill=False), Watch(cluster, raylets, kill=True)
    undisturbed = sweep(SPACE, data, run_folder=folder / "plain", callbacks=[watch], **BUDGET)
    disturbed = sweep(SPACE, data, run_folder=folder / "killed", callbacks=[kill], **BUDGET)
    until = time.monotonic() + 60
    while alive() > 2 and time.monotonic() < until:  # the sweep may end before Ray has given the node up
        time.sleep(0.2)
    best = undisturbed.best
    store = PredictionStore(folder / "store")
    store.fill(best.spec, best.folder, data.validation, "validation", run=run_on_ray)
    kept = PredictionStore(folder / "plain" / "predictions")
    same = all(
        np.allclose(store.read("validation", [name])[0], kept.read("validation", [name])[0], atol=1e-6)
        for name in best.spec.members
    )
    said = {
        "nodes_used": len(watch.used),
        "killed": 2 - len(raylets),
        "alive": alive(),
        "same": outcome(undisturbed) == outcome(disturbed),
        "failed": [t.failure for t in (*disturbed.members, *disturbed.structures) if t.failure],
        "store": same,
    }
    print(json.dumps(said))
    ray.shutdown()
    cluster.shutdown()


def alive():
    return sum(node["Alive"] for node in ray.nodes())


def outcome(result):
    return [
        (t.number, dict(t.params), t.values.get("log_loss"), t.failure) for t in (*result.members, *result.structures)
    ]
