"""What restarts an application and what does not, from fingerprints alone."""

from pathlib import Path

import pytest

from quorate.deployments import Doors, parse_spec
from quorate.deployments.control.placement import actor_options
from quorate.deployments.control.serve_apps import (
    HEALTH_CHECK_PERIOD_S,
    HEALTH_CHECKS_PER_S,
    door_application,
    health_check_period_s,
    member_application,
    scaling,
)
from quorate.deployments.records.kept_files import KeptFiles
from quorate.deployments.records.registry import Publication
from quorate.deployments.spec.schema import Replicas, Resources

FOLDER, KEPT = Path("/models"), KeptFiles(Path("kept"))


def spec(fusion=None, serving=None, **member):
    return parse_spec(
        {
            "name": "apps",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "classes": ["red", "green"],
            "members": {
                "a": {"model": "torch.nn:Identity", "inputs": ["x"], **member},
                "b": {"model": "torch.nn:Identity", "inputs": ["x"]},
            },
            "fusion": {"rule": "mean", **(fusion or {})},
            "serving": serving or {},
        }
    )


def member(spec, name="a", folder=FOLDER):
    return member_application(spec, name, folder, KEPT).name


def fusion(spec, doors=None, http_port=1, node="10.0.0.1"):
    return door_application(Publication(spec, FOLDER, KEPT, {}), doors or Doors(), http_port, 2, node).name


@pytest.mark.parametrize(
    "change",
    [{"config": {"width": 2}}, {"replicas": {"min": 2, "max": 2}}, {"resources": {"num_cpus": 2}}],
)
def test_a_changed_member_is_another_application_and_the_others_are_not(change):
    before, after = spec(), spec(**change)
    assert member(before) != member(after)
    assert member(before, "b") == member(after, "b")


def test_a_new_revision_restarts_neither_members_nor_the_fusion():
    before, after = spec(), spec(fusion={"rule": "weighted_mean", "weights": {"a": 0.1, "b": 0.9}, "deadline_s": 3})
    assert before.revision != after.revision
    assert (member(before), fusion(before)) == (member(after), fusion(after))


def test_the_folder_that_was_deployed_from_restarts_nothing():
    assert member(spec()) == member(spec(), folder=Path("/elsewhere"))


def test_doors_that_move_restart_the_fusion_and_other_tokens_do_not():
    before = fusion(spec())
    assert before.startswith("apps.@10-0-0-1.")
    assert fusion(spec(), node="10.0.0.2") != before
    assert fusion(spec(), http_port=7) != before
    assert fusion(spec(serving={"max_batch_size": 8})) != before
    assert fusion(spec(), Doors(ask_tokens=("0" * 64,))) == before


def test_an_application_runs_only_when_all_its_replicas_are_of_its_fingerprint():
    app = member_application(spec(), "a", FOLDER, KEPT)
    mine, other = {"fingerprint": app.fingerprint}, {"fingerprint": "another"}
    assert app.is_what_runs([mine, mine])
    assert not app.is_what_runs([mine, other])
    assert not app.is_what_runs([])


def test_resources_and_replicas_become_options_of_ray_and_serve():
    labelled = Resources(num_gpus=0.5, num_cpus=1, accelerator_type="H100", labels={"zone": "b"})
    assert actor_options(labelled) == {
        "num_cpus": 1, "num_gpus": 0.5, "accelerator_type": "H100", "label_selector": {"zone": "b"},
    }  # fmt: skip
    assert actor_options(Resources()) == {"num_cpus": 0.5, "num_gpus": 0.0}
    assert actor_options(Resources(), "10.0.0.1")["resources"] == {"node:10.0.0.1": 0.001}
    assert scaling(Replicas(min=3, max=3)) == {"num_replicas": 3}
    config = scaling(Replicas(min=1, max=4, upscale_delay_s=7))["autoscaling_config"]
    assert (config.min_replicas, config.max_replicas, config.upscale_delay_s) == (1, 4, 7)


def test_the_more_applications_the_less_often_each_is_looked_at():
    assert health_check_period_s(1) == health_check_period_s(100) == HEALTH_CHECK_PERIOD_S
    assert health_check_period_s(1000) == 1000 / HEALTH_CHECKS_PER_S
