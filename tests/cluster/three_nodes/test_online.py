"""One process learns from the labels of all doors, whose records lie on disks of their own; it may die."""

import pytest

from tests.cluster.three_nodes.cluster import HEAD, PLACES
from tests.cluster.three_nodes.machine import DISK, address, wait_for
from tests.cluster.three_nodes.oracle import ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

SPEC = {
    **ensemble("taught", {"a": 0.9, "b": 0.05, "c": 0.05}), "record": {"folder": f"{DISK}/record"},
    "online": {"mode": "live", "publish_every": "1s"},
}  # fmt: skip


def test_labels_of_all_nodes_are_learned_from_once_wherever_they_were_given(nodes, deploy):
    port = deploy(SPEC, takes_labels=True)["http"].rpartition(":")[2]
    doors = [f"http://{address(place)}:{port}" for place in PLACES]

    def learned():
        return nodes.driver().do("learned", name="taught") or {"labels": 0, "published": 0}

    wait_for(lambda: "mode" in learned(), "it has begun", 120)
    # Each label comes to another door than the one that gave the answer.
    taught = nodes.driver().do("teach", name="taught", doors=doors, answers=30, seed=0, member=2)
    assert {verdict: count for verdict, count in taught.items() if count} == {"accepted": 600}
    wait_for(lambda: learned()["labels"] == 600, "all labels are learned from", 180)
    wait_for(lambda: learned()["published"] > 0, "weights go live", 180)
    weights = nodes.driver().do("fusion", name="taught")[0]["spec"]["fusion"]["weights"]
    assert weights["c"] > weights["a"]

    before = nodes.driver().do("learner", name="taught")
    where = next(place for place in PLACES if address(place) == before["node"])
    away = where if where != HEAD else PLACES[-1]
    if where == HEAD:
        nodes.nodes[HEAD].signal(before["pid"])
    nodes.switch_off(away)
    there = [door for place, door in zip(PLACES, doors, strict=True) if place != away]
    wait_for(lambda: nodes.driver().do("learner", name="taught").get("pid", before["pid"]) != before["pid"],
             "another process learns", 300)  # fmt: skip
    taught = nodes.driver().do("teach", name="taught", doors=there, answers=10, seed=1, member=2)
    assert taught["accepted"] == 200
    wait_for(lambda: 400 < learned()["labels"] < 800, "what is there is learned from", 180)
    nodes.switch_on(away)
    wait_for(lambda: learned()["labels"] == 800, "what was away is learned from, and nothing twice", 300)
