"""A config from the network changes the fusion and nothing else."""

import json

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import RequestError, SpecError
from quorate.deployments.spec.patch import revise, without_files

SPEC = parse_spec(
    {
        "name": "patched",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "classes": ["red", "green"],
        "members": {name: {"model": "torch.nn:Identity", "inputs": ["x"]} for name in "ab"},
        "fusion": {"rule": "weighted_mean", "weights": {"a": 0.5, "b": 0.5}, "deadline_s": 2.0},
    }
)


def patched(**fusion):
    return revise(SPEC, json.dumps({"fusion": fusion}))


def test_what_a_config_leaves_out_stays_as_it_is():
    changed = patched(weights={"a": 0.25, "b": 0.75})
    assert changed.fusion == SPEC.output_fusion.model_copy(update={"weights": {"a": 0.25, "b": 0.75}})
    assert (changed.members, changed.wiring) == (SPEC.members, SPEC.wiring)
    assert changed.revision != SPEC.revision


def test_null_takes_a_setting_away():
    changed = patched(rule="mean", weights=None, deadline_s=None)
    assert changed.fusion.weights is None
    assert changed.fusion.deadline_s == 1.0


def test_fusions_with_names_are_changed_by_name():
    fusion = {"rule": "mean", "members": ["a", "b"]}
    named = parse_spec(
        {**SPEC.model_dump(mode="json", exclude_defaults=True), "fusion": None, "fusions": {"all": fusion}}
    )
    changed = revise(named, json.dumps({"fusions": {"all": {"quorum": 2}}}))
    assert changed.fusions["all"].quorum == 2
    for config, message in (
        ({"fusion": {"quorum": 2}}, "the fusions have names"),
        ({"fusions": {"other": {}}}, "there are all"),
        ({"fusions": [1]}, "there are all"),
    ):
        with pytest.raises(RequestError, match=message):
            revise(named, json.dumps(config))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config is not JSON"),
        ("[]", "config holds list; a revision changes only the fusion"),
        ("{}", "a revision changes only the fusion"),
        ('{"fusion": {}, "fusions": {}}', "a revision changes only the fusion"),
        ('{"members": {"a": {"model": "os:system"}}}', "config holds 'members'"),
        ('{"fusion": 3}', "fusion is 3; send an object with rule, members"),
        ('{"fusion": {"rul": "mean"}}', "fusion.rul is unknown"),
        ('{"fusion": {"state": "/etc/passwd"}}', "fusion.state names a file"),
        ('{"fusion": {"calibration": {"state": "/etc/passwd"}}}', "fusion.calibration.state names a file"),
    ],
)
def test_what_is_not_a_fusions_setting_is_refused(config, message):
    with pytest.raises(RequestError, match=message):
        revise(SPEC, config)


def test_a_fusion_that_is_wrong_is_refused_as_in_a_file():
    with pytest.raises(SpecError, match=r"fusion\.rule: there is no rule 'best'"):
        patched(rule="best")


def test_names_of_files_are_left_out_of_what_the_network_may_see():
    data = {"fusion": {"state": "s.safetensors", "calibration": {"bias": {"state": 0.5}, "state": "c.safetensors"}}}
    assert without_files(data) == {"fusion": {"calibration": {"bias": {"state": 0.5}}}}
