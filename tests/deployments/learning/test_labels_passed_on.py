"""Labels for answers that another node's doors have recorded are passed on to those."""

import threading

import pytest

from quorate.deployments.errors import OverloadedError
from quorate.deployments.learning import feedback as feedback_of_a_record
from quorate.deployments.learning.feedback import Feedback
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.deployments.wire.feedback import GivenLabel
from tests.deployments.support.given_labels import OTHER, OWN, Counted, answer, verdicts


@pytest.fixture
def spec(pair_spec):
    return EnsembleSpec.model_validate(pair_spec)


def test_labels_for_answers_of_other_folders_are_passed_on_and_counted_where_they_are_written(tmp_path, spec):
    counts, asked = Counted(), []

    def others(labels):
        asked.extend(labels)
        return [("accepted", "") if label.row == 0 else ("unknown", "nobody") for label in labels]

    feedback = Feedback("pair", RecordSpec(folder=str(tmp_path)), OWN, counts)
    given = [
        GivenLabel(answer(1), "red"),
        GivenLabel(answer(1, OTHER, 2), "red"),
        GivenLabel(answer(1, OTHER, 2), "red", 1),
    ]
    reply = feedback.give(spec, given, others).result(60)
    assert verdicts(reply) == {"accepted": 2, "unknown": 1}
    assert (asked, counts.found) == (given[1:], {"accepted": 1, "unknown": 1})
    assert feedback.judge(spec, given).result(60)[1][0] == "unknown"
    feedback.close()


def test_where_no_other_answers_a_label_is_unknown_and_others_are_taken(tmp_path, spec):
    def others(labels):
        raise OSError("no way")

    feedback = Feedback("pair", RecordSpec(folder=str(tmp_path)), OWN, Counted())
    given = [GivenLabel(answer(1), "red"), GivenLabel(answer(1, OTHER), "red")]
    assert verdicts(feedback.give(spec, given, others).result(60)) == {"accepted": 1, "unknown": 1}
    assert verdicts(feedback.give(spec, given, lambda labels: None).result(60)) == {"again": 1, "unknown": 1}
    feedback.close()


def test_labels_that_others_are_asked_about_count_among_those_that_wait(tmp_path, spec, monkeypatch):
    monkeypatch.setattr(feedback_of_a_record, "MAX_WAITING", 3)
    asked, released = threading.Semaphore(0), threading.Event()

    def others(labels):
        asked.release()
        released.wait()

    feedback = Feedback("pair", RecordSpec(folder=str(tmp_path)), OWN, Counted())
    replies = []
    for number in range(2):
        replies.append(feedback.give(spec, [GivenLabel(answer(number, OTHER), "red")] * 2, others))
        asked.acquire()
    with pytest.raises(OverloadedError):
        feedback.give(spec, [GivenLabel(answer(), "red")])
    released.set()
    assert [verdicts(reply.result(60)) for reply in replies] == [{"unknown": 2}] * 2
    assert verdicts(feedback.give(spec, [GivenLabel(answer(), "red")]).result(60)) == {"accepted": 1}
    feedback.close()
