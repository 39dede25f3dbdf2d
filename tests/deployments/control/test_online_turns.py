"""What one turn of learning leaves behind, where it could not publish, or the ensemble is no more."""

import json
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.control.online import online_learning
from quorate.deployments.control.online.online_learning import OnlineLearning
from quorate.deployments.errors import ConflictError, DeployError
from quorate.deployments.learning.online.state import Publication
from quorate.deployments.records.registry import Registry
from tests.deployments.support.memory_store import MemoryStore

MEMBERS = {name: {"model": "known:known", "inputs": ["x"]} for name in ("a", "b")}
FUSION = {"rule": "weighted_mean", "weights": {"a": 0.5, "b": 0.5}, "deadline_s": 1.0}
SPEC = parse_spec({
    "name": "taught", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": ["no", "yes"], "members": MEMBERS,
    "fusion": FUSION, "record": {"folder": "/record"}, "online": "live",
})  # fmt: skip


class Learner:
    """Wishes for one thing, always."""

    labels = 7
    left_out: ClassVar[Any] = {}

    def wishes(self):
        return {"fused": SimpleNamespace(back=False)}

    def weights(self, wishes):
        return {"fused": {"a": 0.9, "b": 0.1}}

    def relabels(self, wishes):
        return {"fused": {}}

    def publication(self, wishes, fusion, revision, weights):
        return Publication(fusion, revision, 0, False, weights, {}, {})

    def report(self):
        return []


@pytest.fixture
def learning(monkeypatch):
    found: Any = OnlineLearning("taught", Registry(MemoryStore()))
    monkeypatch.setattr(found, "_look", lambda: None)
    found._record, found._learner = SimpleNamespace(live=SimpleNamespace(spec=SPEC)), Learner()
    return found


@pytest.mark.parametrize("error", [ConflictError("somebody deploys"), DeployError("no door answers")])
def test_what_was_not_published_is_not_taken_for_ours_when_somebody_makes_the_same_live(learning, monkeypatch, error):
    begun = []

    def publish(*args, **options):
        begun.append(json.loads(learning._registry.online("taught"))["state"]["begun"]["revision"])
        raise error

    monkeypatch.setattr(online_learning, "publish", publish)
    learning._publish(learning._record, learning._learner)
    learning._note()
    assert len(begun) == 1
    told = json.loads(learning._registry.online("taught"))
    assert told["state"]["begun"] is None
    assert told["report"]["trouble"] == str(error)


def test_a_turn_that_ends_after_the_ensemble_writes_nothing(learning):
    learning._note()
    learning._registry.forget_online("taught")
    learning.close()
    learning._learner.labels = 8
    learning._note()
    assert learning._registry.online("taught") == b""


def test_why_labels_cannot_be_read_is_told(learning):
    class Rows:
        local = True

        def new(self, nodes):
            raise OSError("the disk is gone")

    class Reader(Learner):
        def take(self, found):
            list(found)

    record = SimpleNamespace(live=SimpleNamespace(spec=SPEC), door_apps={})
    with pytest.raises(OSError, match="gone"):
        learning._read(record, Reader(), Rows())
    learning._record = record
    learning._note()
    assert json.loads(learning._registry.online("taught"))["report"]["trouble"] == (
        "labels cannot be read: the disk is gone"
    )
