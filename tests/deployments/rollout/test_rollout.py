"""Prepare, rehearse, check, record, commit: with replicas that only write down what they are told."""

from pathlib import Path

import numpy as np
import pytest

from quorate.deployments.errors import CanaryError, DeployError
from quorate.deployments.rollout import rollout
from quorate.deployments.rollout.rollout import Candidate, own_message, roll_out
from tests.deployments.support.publications import publication


class Told:
    """Fusion replicas that write down which methods were called.

    Attributes:
        replies: by method, what all of them answer; nothing otherwise.
        recorded: what became live.
    """

    def __init__(self, running=2, answering=2, **replies):
        self.running, self.answering, self.replies, self.calls = running, answering, replies, []
        self.recorded: list[str] = []

    def call(self, method, *arguments, timeout_s):
        self.calls.append(method)
        return self.replies.get(method, [{} if method == "probe" else None] * self.answering)

    def count(self):
        return self.running


def attempt(replicas, found, check=None):
    """Roll out, and what became live."""
    roll_out(Candidate(found, replicas, Path("/")), lambda: replicas.recorded.append(found.spec.revision), check)
    return replicas.recorded


@pytest.mark.parametrize("chained", [False, True])
def test_a_revision_that_everyone_prepared_and_answers_zeros_is_recorded_and_then_used(chained):
    found, replicas = publication(chained=chained), Told(probe=[{"fused": np.zeros((1, 2))}] * 2)
    assert attempt(replicas, found) == [found.spec.revision]
    assert replicas.calls == ["prepare", "probe", "adopt"]


def test_a_replica_that_refuses_keeps_the_old_revision_everywhere():
    refusal = RuntimeError("Traceback ...\nquorate.deployments.errors.DeployError: weights are missing\n")
    replicas = Told(prepare=[None, refusal])
    with pytest.raises(DeployError, match="was not published: weights are missing; the old one still answers"):
        attempt(replicas, publication())
    assert (replicas.calls, replicas.recorded) == (["prepare", "discard"], [])


def test_of_many_replicas_a_few_may_be_away_and_take_it_up_later(monkeypatch):
    monkeypatch.setattr(rollout, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(rollout, "_RETRY_S", 0.0)
    away = Told(running=100, answering=95, probe=[np.zeros((1, 2))] * 95)
    assert len(attempt(away, publication())) == 1
    late = Told(running=100, prepare=[None] * 95 + [TimeoutError()] * 5, probe=[np.zeros((1, 2))] * 95)
    assert len(attempt(late, publication())) == 1
    unheard = Told(running=100, answering=100, probe=[np.zeros((1, 2))] * 98 + [KeyError("revision")] * 2)
    assert len(attempt(unheard, publication())) == 1


@pytest.mark.parametrize("answering", [94, 60])
def test_more_than_a_few_keep_the_old_revision(monkeypatch, answering):
    monkeypatch.setattr(rollout, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(rollout, "CONTROL_TIMEOUT_S", 0.01)
    with pytest.raises(DeployError, match=f"{answering} of 100 fusion replicas answered"):
        attempt(Told(running=100, answering=answering), publication())
    late = Told(running=100, prepare=[None] * answering + [TimeoutError()] * (100 - answering))
    with pytest.raises(DeployError, match="no answer within"):
        attempt(late, publication())


def test_one_of_many_that_cannot_build_the_revision_keeps_the_old_one():
    refusal = RuntimeError("quorate.deployments.errors.DeployError: weights are missing\n")
    with pytest.raises(DeployError, match="weights are missing"):
        attempt(Told(running=100, prepare=[None] * 99 + [refusal]), publication())


def test_a_replica_that_does_not_answer_keeps_the_old_revision(monkeypatch):
    monkeypatch.setattr(rollout, "CONTROL_TIMEOUT_S", 0.01)
    replicas = Told(answering=1)
    with pytest.raises(DeployError, match="1 of 2 fusion replicas answered"):
        attempt(replicas, publication())
    assert replicas.recorded == []


def test_a_replica_that_has_just_died_is_waited_for_until_serve_knows(monkeypatch):
    monkeypatch.setattr(rollout, "_RETRY_S", 0.01)
    replicas = Told(answering=1, probe=[{"fused": np.zeros((1, 2))}])
    running = iter([2, 2, 1, 1])
    monkeypatch.setattr(replicas, "count", lambda: next(running))
    assert attempt(replicas, publication())
    assert replicas.calls == ["prepare"] * 3 + ["probe", "adopt"]


def test_a_registry_that_refuses_keeps_the_old_revision():
    def refuse():
        raise DeployError("somebody else was faster")

    replicas = Told()
    with pytest.raises(DeployError, match="somebody else was faster"):
        roll_out(Candidate(publication(), replicas, Path("/")), refuse)
    assert replicas.calls == ["prepare", "probe", "discard"]


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
    with pytest.raises(DeployError, match=r"kept does not answer an example: row 0 lacks b:error; correct"):
        attempt(replicas, publication(chained=True))
    assert (replicas.calls, replicas.recorded) == (["prepare", "probe", "discard"], [])


def test_a_rule_that_cannot_fuse_what_members_give_keeps_the_old_revision():
    refusal = RuntimeError("quorate.fusion.errors.QuorateError: the members' answers could not be fused; see the log")
    replicas = Told(probe=[refusal] * 2)
    with pytest.raises(DeployError, match="does not answer an example: the members' answers could not be"):
        attempt(replicas, publication())
    assert (replicas.calls, replicas.recorded) == (["prepare", "probe", "discard"], [])


def test_a_member_that_is_only_late_does_not_stop_a_revision():
    replicas = Told(probe=[RuntimeError("quorate.deployments.errors.DeadlineError: row 0 lacks b:deadline")] * 2)
    assert attempt(replicas, publication(chained=True))


def test_what_all_replicas_saw_of_a_canary_is_added_up():
    seen = {"answers": 2, "degraded": 1, "errors": 0, "latencies": {3: 2}}
    more = {"answers": 1, "degraded": 0, "errors": 1, "latencies": {3: 1, 5: 1}}
    candidate = Candidate(publication(), Told(outcomes=[{"old": seen, "new": more}, {"old": more}]), Path("/"))
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
        (
            "A replica failed to start with exception. Retrying 2 more time(s). Error:\nActorDiedError()",
            "its process ended as it started; see Ray's logs for a crash, or for too little memory",
        ),
        (
            "Error:\nActorUnavailableError('temporarily unavailable: rpc_code: 14', b'I\\xe1*')",
            "its process could not be reached as it started; try again",
        ),
        ("", "no reason given; see Ray's logs"),
    ],
)  # fmt: skip
def test_of_a_remote_trace_only_the_reason_is_shown(trace, message):
    assert own_message(trace) == message
