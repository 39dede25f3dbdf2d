"""Where replicas have room, from two dataclasses and no cluster."""

import math
import os

import psutil

from quorate.deployments.control.placement import Node, Rooms, Wanted, node_memory
from quorate.deployments.records.memory_needs import Needs
from quorate.deployments.spec.schema import Resources


def places(*nodes, **wanted):
    parts = [Wanted(part, 0, Resources(**{"num_cpus": 1, **what})) for part, what in wanted.items()]
    return {found.part: found.node or found.problem for found in Rooms(nodes).place(parts)}


def test_fractions_share_a_gpu_and_the_largest_need_goes_first():
    found = places(Node("n", 8, 1), Node("m", 8, 1), a={"num_gpus": 0.5}, b={"num_gpus": 0.5}, c={"num_gpus": 1})
    assert found["a"] == found["b"] != found["c"]


def test_halves_of_gpus_on_two_nodes_are_no_whole_one():
    found = places(Node("n", 8, 0.5), Node("m", 8, 0.5), a={"num_gpus": 1})
    assert found["a"] == "needs 1 GPUs, the node with most has 0.5 free"


def test_a_label_or_an_accelerator_chooses_the_node():
    nodes = (Node("old", 8, 1, "T4"), Node("new", 8, 1, "H100", {"zone": "b"}))
    found = places(*nodes, a={"num_gpus": 1, "accelerator_type": "H100"}, b={"labels": {"zone": "b"}})
    assert found["a"] == found["b"] == "new"


def test_what_is_pinned_to_a_node_goes_nowhere_else():
    rooms = Rooms([Node("n", 1, 0), Node("m", 8, 0)])
    pinned = [Wanted("doors", number, Resources(num_cpus=1), "n") for number in range(2)]
    assert [found.node for found in rooms.place(pinned)] == ["n", ""]


def test_what_does_not_fit_says_why():
    found = places(
        Node("n", 8, 2, "T4"),
        a={"num_gpus": 4},
        b={"num_gpus": 1, "accelerator_type": "H100"},
        c={"num_cpus": 64},
    )
    assert found["a"] == "needs 4 GPUs, the node with most has 2 free"
    assert found["b"] == "no node has H100"
    assert found["c"] == "needs 64 CPUs, the node with most has 8 free"


def test_what_is_given_back_is_free_where_it_was():
    rooms = Rooms([Node("n", 1, 1, node_id="1"), Node("m", 1, 0, node_id="2")])
    wanted = [Wanted("a", 0, Resources(num_cpus=1, num_gpus=1))]
    rooms.place(wanted)
    assert rooms.copy().place(wanted)[0].problem
    rooms.give_back("1", Resources(num_cpus=1, num_gpus=1))
    assert rooms.place(wanted)[0].node == "n"


GB = 10**9


def test_what_needs_more_memory_than_a_node_has_free_is_refused_with_both_numbers():
    rooms = Rooms([Node("n", 8, 0, memory_bytes=5 * GB), Node("m", 8, 0, memory_bytes=3 * GB)])
    wanted = [Wanted("a", number, Resources(num_cpus=1), needs=Needs(3 * GB, measured=True)) for number in range(3)]
    first, second, third = rooms.place(wanted)
    assert (first.node, second.node) == ("n", "m")
    assert third.problem == "needs 3.0 GB of memory, the node with most has 2.0 GB free"


def test_a_part_of_a_gpu_is_that_part_of_its_memory():
    node = Node("n", 8, 1, gpu_bytes=24 * GB)
    needs = Needs(gpu_bytes=13 * GB)
    half, more = (Wanted("a", 0, Resources(num_cpus=1, num_gpus=part), needs=needs) for part in (0.5, 0.6))
    assert Rooms([node]).place([more])[0].node == "n"
    found = Rooms([node]).place([half])[0].problem
    assert found == "needs 13.0 GB of a GPU or more, and num_gpus: 0.5 allows 11.3 GB of one"


def test_what_is_stopped_gives_its_memory_back():
    rooms = Rooms([Node("n", 8, 0, node_id="1", memory_bytes=GB)])
    wanted = [Wanted("a", 0, Resources(num_cpus=1), needs=Needs(2 * GB))]
    assert rooms.copy().place(wanted)[0].problem
    rooms.give_back("1", Resources(num_cpus=1), GB)
    assert rooms.place(wanted)[0].node == "n"


def test_the_driver_says_how_large_gpus_are(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81559\necho 24564\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    free, smallest = node_memory()
    assert 0 < free <= psutil.virtual_memory().total
    assert smallest == 24564 * 2**20


def test_a_node_without_gpus_limits_none(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert node_memory()[1] == math.inf
