"""Prepare, rehearse, check, record, commit: with replicas that only write down what they are told."""

from pathlib import Path

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.control.registry import Publication, Registry
from quorate.deployments.control.rollout import Candidate, own_message, roll_out
from quorate.deployments.errors import CanaryError, DeployError
from tests.deployments.support.memory_store import MemoryStore


def publication(chained=False):
    members = {"a": {"model": "torch.nn:Identity", "inputs": ["x"], "output": "features" if chained else "logits"}}
    if chained:
        members["b"] = {"model": "torch.nn:Identity", "inputs": ["a"]}
    spec = {
        "name": "rolled",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": members,
        "classes": ["red", "green"],
        "fusion": {"rule": "mean"},
    }
    return Publication(parse_spec(spec), Path("/models"), {name: f"rolled.{name}.12345678" for name in members})


class Told:
    """Fusion replicas that write down which methods were called.

    Attributes:
        replies: by method, what all of them answer; None otherwise.
        recorded: what was live after the last attempt; None before any.
    """

    def __init__(self, count=2, **replies):
        self.count, self.replies, self.calls = count, replies, []
        self.recorded: list[str] | None = None

    def call(self, method, *arguments, timeout_s):
        self.calls.append(method)
        return self.replies.get(method, [None] * self.count)


def attempt(replicas, found, check=None, expected=2):
    """Roll out, and what was recorded as live."""
    registry = Registry(MemoryStore())
    try:
        roll_out(Candidate(found, replicas, expected), registry, check)
    finally:
        recorded = [kept.spec.revision for kept in registry.history("rolled")]
        replicas.recorded = recorded
    return recorded


@pytest.mark.parametrize("chained", [False, True])
def test_a_revision_that_everyone_prepared_and_answers_zeros_is_recorded_and_then_used(chained):
    found, replicas = publication(chained), Told(probe=[np.zeros((1, 2))] * 2)
    assert attempt(replicas, found) == [found.spec.revision]
    assert replicas.calls == ["prepare", "probe", "commit"]


def test_a_replica_that_refuses_keeps_the_old_revision_everywhere():
    refusal = RuntimeError("Traceback ...\nquorate.deployments.errors.DeployError: weights are missing\n")
    replicas = Told(prepare=[None, refusal])
    with pytest.raises(DeployError, match="was not published: weights are missing; the old one still answers"):
        attempt(replicas, publication())
    assert (replicas.calls, replicas.recorded) == (["prepare", "discard"], [])


def test_a_replica_that_does_not_answer_keeps_the_old_revision():
    replicas = Told(count=1)
    with pytest.raises(DeployError, match="1 of 2 fusion replicas answered"):
        attempt(replicas, publication())
    assert replicas.recorded == []


def test_what_the_check_raises_keeps_the_old_revision():
    def refuse(candidate):
        assert candidate.revision == publication().spec.revision
        raise CanaryError(candidate.revision, "worse", "tune again")

    replicas = Told()
    with pytest.raises(CanaryError):
        attempt(replicas, publication(), refuse)
    assert (replicas.calls, replicas.recorded) == (["prepare", "probe", "discard"], [])


def test_a_member_that_fails_on_what_another_gives_keeps_the_old_revision():
    replicas = Told(probe=[RuntimeError("quorate.fusion.errors.QuorumError: row 0 lacks b:error")] * 2)
    with pytest.raises(DeployError, match=r"rolled does not answer an example of zeros: row 0 lacks b:error; correct"):
        attempt(replicas, publication(chained=True))
    assert (replicas.calls, replicas.recorded) == (["prepare", "probe", "discard"], [])


def test_a_rule_that_cannot_fuse_what_members_give_keeps_the_old_revision():
    refusal = RuntimeError("quorate.fusion.errors.QuorateError: the members' answers could not be fused; see the log")
    replicas = Told(probe=[refusal] * 2)
    with pytest.raises(DeployError, match="does not answer an example of zeros: the members' answers could not be"):
        attempt(replicas, publication())
    assert (replicas.calls, replicas.recorded) == (["prepare", "probe", "discard"], [])


def test_a_member_that_is_only_late_does_not_stop_a_revision():
    replicas = Told(probe=[RuntimeError("quorate.deployments.errors.DeadlineError: row 0 lacks b:deadline")] * 2)
    assert attempt(replicas, publication(chained=True))


def test_what_all_replicas_saw_of_a_canary_is_added_up():
    seen = {"answers": 2, "degraded": 1, "errors": 0, "latencies": {3: 2}}
    more = {"answers": 1, "degraded": 0, "errors": 1, "latencies": {3: 1, 5: 1}}
    candidate = Candidate(publication(), Told(outcomes=[{"old": seen, "new": more}, {"old": more}]), 2)
    found = candidate.outcomes()
    assert (found["old"].answers, found["old"].degraded, found["old"].errors) == (3, 1, 1)
    assert found["old"].latencies.counts == {3: 3, 5: 1}
    assert (found["new"].answers, found["new"].errors) == (1, 1)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ("Traceback\n  ...\nquorate.fusion.errors.FusionError: no weights; give some\n\nmore", "no weights; give some"),
        ("ray::x()\nquorate.deployments.errors.MemberLoadError: a: no file; restore it", "a: no file; restore it"),
        ("first\n  KeyError: 'x'  \n", "KeyError: 'x'"),
        ("", "no reason given; see Ray's logs"),
    ],
)  # fmt: skip
def test_of_a_remote_trace_only_the_reason_is_shown(trace, message):
    assert own_message(trace) == message
