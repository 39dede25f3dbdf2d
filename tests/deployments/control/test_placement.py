"""The plan: who goes where, and why not, from two dataclasses and no cluster."""

from quorate.deployments import parse_spec
from quorate.deployments.control.placement import Node, plan


def spec(**resources):
    members = {
        name: {"model": "torch.nn:Identity", "inputs": ["x"], "resources": {"num_cpus": 1, **what}}
        for name, what in resources.items()
    }
    return parse_spec(
        {
            "name": "plan",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": members,
            "fusion": {"rule": "mean"},
            "serving": {"resources": {"num_cpus": 0.5}},
        }
    )


def places(spec, *nodes):
    return {p.member: (p.node, p.gpu, p.problem) for p in plan(spec, nodes)}


def test_fractions_share_a_gpu_and_whole_ones_do_not():
    found = places(spec(a={"num_gpus": 0.5}, b={"num_gpus": 0.5}, c={"num_gpus": 1}), Node("n", 8, 2))
    assert found["c"] == ("n", "0", "")
    assert found["a"] == found["b"] == ("n", "1", "")
    assert found["plan"] == ("n", "", "")


def test_a_label_or_an_accelerator_chooses_the_node():
    nodes = (Node("old", 8, 1, "T4"), Node("new", 8, 1, "H100", {"zone": "b"}))
    found = places(spec(a={"num_gpus": 1, "accelerator_type": "H100"}, b={"labels": {"zone": "b"}}), *nodes)
    assert found["a"][0] == found["b"][0] == "new"


def test_what_does_not_fit_says_why():
    found = places(
        spec(a={"num_gpus": 4}, b={"num_gpus": 1, "accelerator_type": "H100"}, c={"num_cpus": 64}),
        Node("n", 8, 2, "T4"),
    )
    assert found["a"][2] == "needs 4 GPUs, the node with most has 2 free"
    assert found["b"][2] == "no node has H100"
    assert found["c"][2].startswith("needs 64 CPUs, the node with most has")
