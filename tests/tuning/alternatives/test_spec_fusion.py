"""A recipe becomes a spec: what nothing reads any more is not in it."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.spec_fusion import incumbent_recipe, with_recipe


def spec(**fusion):
    linear = {"model": "torch.nn:Linear"}
    return parse_spec(
        {
            "name": "senses",
            "inputs": {name: {"datatype": "FP32", "shape": [4]} for name in ("image", "sound", "depth")},
            "classes": ["a", "b"],
            "members": {
                "eye": {**linear, "inputs": ["image"], "output": "features"},
                "ear": {**linear, "inputs": ["sound"], "output": "features"},
                "head": {**linear, "inputs": ["both"]},
                "plain": {**linear, "inputs": ["depth"]},
            },
            "fusions": {
                "both": {"rule": "concat", "members": ["eye", "ear"]},
                "answer": {"rule": "mean", "members": ["head", "plain"], **fusion},
            },
        }
    )


def test_a_member_alone_leaves_no_branch_of_another_and_no_input_that_it_does_not_read(tmp_path):
    alone = with_recipe(spec(), Recipe("mean", ("plain",)), tmp_path, "plain")
    assert set(alone.members) == {"plain"}
    assert set(alone.fusions) == {"answer"}
    assert set(alone.inputs) == {"depth"}


def test_a_head_alone_keeps_the_whole_branch_before_it(tmp_path):
    alone = with_recipe(spec(), Recipe("mean", ("head",)), tmp_path, "head")
    assert set(alone.members) == {"eye", "ear", "head"}
    assert set(alone.fusions) == {"both", "answer"}
    assert set(alone.inputs) == {"image", "sound"}


@pytest.mark.parametrize("name", ["depth", "image"])
def test_an_input_that_only_a_gate_reads_stays(tmp_path, name):
    recipe = Recipe("gate", ("head",), None, {"input_name": name, "top_k": 1})
    assert set(with_recipe(spec(), recipe, tmp_path, "gate").inputs) == {"image", "sound", name}


@pytest.mark.parametrize(
    ("rule", "options", "mode"),
    [
        ("weighted_mean", {}, "live"),
        ("geometric_mean", {}, "shadow"),
        ("bandit", {"explore": 0.1, "max_loss": 0.1}, "live"),
        ("bandit", {"max_loss": 0.1}, "off"),
    ],
)
def test_it_learns_online_as_the_given_one_did_where_its_rule_can(tmp_path, rule, options, mode):
    weights = {"plain": 0.5, "head": 0.5}
    given = spec(rule="weighted_mean", weights=weights)
    data = {**given.model_dump(mode="json", exclude_defaults=True), "record": {"folder": "/r"}, "online": "live"}
    recipe = Recipe(rule, ("plain", "head"), weights if rule == "weighted_mean" else None, options)
    found = with_recipe(parse_spec(data), recipe, tmp_path, "found")
    assert found.online.mode == mode
    assert found.output_fusion.rule == rule


def test_weights_are_not_tuned_on_labels_by_other_names_than_members_know(tmp_path):
    relabelled = spec(relabel={"a": "b"})
    with pytest.raises(SpecError, match=r"fusions\.answer\.relabel: .*train members on labels of now and remove it"):
        incumbent_recipe(relabelled, tmp_path)
