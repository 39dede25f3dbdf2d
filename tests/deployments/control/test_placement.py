"""Where replicas have room, from two dataclasses and no cluster."""

from quorate.deployments.control.placement import Node, Rooms, Wanted
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
