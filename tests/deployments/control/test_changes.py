"""What stays, what starts and why, with nodes and replicas that are only said to be there."""

from pathlib import Path

import pytest

from quorate.deployments import Doors, parse_spec
from quorate.deployments.control import changes
from quorate.deployments.control.changes import plan_changes
from quorate.deployments.control.placement import Node
from quorate.deployments.control.serve_apps import door_application, member_application
from quorate.deployments.records.kept_files import KeptFiles
from quorate.deployments.records.registry import Publication, Record

NODE, KEPT = "10.0.0.1", KeptFiles(Path("kept"))


def planned_record(number=1, doors=None, digests=None, **member):
    a = {"model": "torch.nn:Identity", "inputs": ["x"], "resources": {"num_cpus": 1, "num_gpus": 1}, **member}
    spec = parse_spec(
        {
            "name": "planned",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "classes": ["red", "green"],
            "members": {"a": a, "b": {"model": "torch.nn:Identity", "inputs": ["x"]}},
            "fusion": {"rule": "mean"},
            "digests": digests or {},
        }
    )
    apps = {name: member_application(spec, name, Path("/models"), KEPT).name for name in spec.members}
    publication = Publication(spec, Path("/models"), KEPT, apps)
    record = Record(number, publication, doors or Doors(), 8000, 8001, {})
    return record.__class__(**{**vars(record), "door_apps": {NODE: doors_of(record).name}})


def doors_of(record):
    return door_application(record.live, record.doors, record.http_port, record.grpc_port, NODE)


def apps_of(record):
    spec = record.live.spec
    members = [member_application(spec, name, record.live.folder, record.live.files) for name in spec.members]
    return [*members, doors_of(record)]


@pytest.fixture
def free(monkeypatch):
    """Sets what the one node has free; its GPU is held by the old ``a``."""

    def make(cpus=8.0, gpus=1.0):
        monkeypatch.setattr(changes, "nodes_free", lambda: [Node(NODE, cpus, gpus, node_id="1")])
        monkeypatch.setattr(changes, "describe", lambda apps: [{"node": "1"}])

    return make


def found(old, new):
    return {app.part: (app.action, app.why, app.problem) for app in plan_changes(old, apps_of(new))}


def test_a_new_ensemble_starts_all_its_parts(free):
    free()
    plan = plan_changes(None, apps_of(planned_record()))
    assert [(app.part, app.action) for app in plan] == [
        ("a", "starts"), ("b", "starts"), (f"doors on {NODE}", "starts"),
    ]  # fmt: skip
    assert {place.node for app in plan for place in app.places} == {NODE}


def test_what_is_the_same_stays(free):
    free(cpus=0.0, gpus=0.0)
    assert set(found(planned_record(), planned_record(2)).values()) == {("stays", "", "")}


def test_a_changed_member_starts_beside_the_old_one_where_there_is_room(free):
    free()
    changed = found(planned_record(), planned_record(2, config={"width": 2}))
    assert changed["a"] == ("starts beside the old one", "changed: config", "")
    assert changed["b"][0] == changed[f"doors on {NODE}"][0] == "stays"


def test_a_changed_member_takes_the_old_ones_place_where_there_is_none(free):
    free(gpus=0.0)
    digests = {"members.a.code": "sha256:" + "0" * 64}
    changed = found(planned_record(), planned_record(2, digests=digests))
    assert changed["a"] == ("takes the old one's place", "changed: code", "")


def test_a_member_that_fits_nowhere_is_a_problem(free):
    free()
    changed = found(planned_record(), planned_record(2, resources={"num_cpus": 1, "num_gpus": 4}))
    assert changed["a"][2] == "needs 4 GPUs, the node with most has 2 free"


def test_doors_that_move_say_so(free):
    free()
    changed = found(planned_record(), planned_record(2, doors=Doors("0.0.0.0", insecure=True)))
    assert changed[f"doors on {NODE}"] == (
        "starts beside the old one", "inputs, classes, serving, address or ports have changed", "",
    )  # fmt: skip
