"""Which requests are traced, and what is done where nothing is to be."""

from dataclasses import replace
from typing import cast

import pytest

from quorate.deployments.telemetry.settings import LogSettings, Telemetry, TraceSettings
from quorate.deployments.telemetry.spans import Recorder
from quorate.deployments.telemetry.trace_context import TraceContext
from quorate.deployments.telemetry.tracer import MOST_DRAWN, Tracer
from quorate.fusion.errors import MissingExtraError
from tests.deployments.support.recorded_spans import RecordedSpans

SAMPLED, UNSAMPLED = TraceContext(7, 9, 1), TraceContext(7, 9, 0)
ON = Telemetry(trace=TraceSettings(on=True, ratio=1.0))


@pytest.fixture
def tracer():
    return Tracer("digits", "one", lambda endpoint, service, instance: cast(Recorder, RecordedSpans()))


def begin(tracer, given=None, model="digits"):
    return tracer.begin(model, given, "door", dict) if given is not None or tracer.looks() else None


def test_while_it_is_off_only_what_comes_with_a_trace_is_passed_on(tracer):
    assert not tracer.looks()
    assert begin(tracer) is None
    assert begin(tracer, SAMPLED).context is SAMPLED
    assert begin(tracer, SAMPLED).span is None


def test_the_callers_decision_holds_and_a_share_is_drawn_of_the_others(tracer):
    tracer.use(ON)
    assert begin(tracer, SAMPLED).span.parent is SAMPLED
    assert begin(tracer, UNSAMPLED).span is None
    assert begin(tracer).span.parent is None
    tracer.use(replace(ON, trace=replace(ON.trace, ratio=0.0)))
    assert begin(tracer) is None
    assert begin(tracer, SAMPLED).span is not None


@pytest.mark.parametrize("logs", ["text", "json"])
def test_a_hundredth_of_the_batches_is_drawn_all_of_each_or_nothing(tracer, logs):
    tracer.use(replace(ON, trace=replace(ON.trace, ratio=0.01), logs=LogSettings(format=logs)))

    def batch(requests):
        found = {(trace := begin(tracer)) is not None and trace.span is not None for _ in range(requests)}
        tracer.draw()
        return found

    found = [batch(1 + number % 7) for number in range(20_000)]
    assert all(len(one) == 1 for one in found)
    assert 130 <= found.count({True}) <= 270  # 200, give or take five standard deviations


def test_requests_that_come_to_no_batch_are_drawn_in_parts(tracer):
    tracer.use(replace(ON, trace=replace(ON.trace, ratio=0.5)))
    drawn = [begin(tracer) is not None for _ in range(64 * MOST_DRAWN)]
    assert 0.19 <= sum(drawn) / len(drawn) <= 0.81  # five standard deviations of 64 draws


def test_a_model_has_a_count_of_its_own_and_one_that_is_set_again_begins_anew(tracer):
    own = replace(ON, models={"cnn": {"count": 1, "times_counted": 1}})
    tracer.use(own)
    assert [begin(tracer, model="cnn") is not None for _ in range(2)] == [True, False]
    assert begin(tracer) is not None
    tracer.use(replace(own, models={"cnn": {"count": 1, "times_counted": 2}}))
    assert begin(tracer, model="cnn") is not None


def test_lines_as_json_name_every_request_and_record_none(tracer):
    tracer.use(Telemetry(logs=LogSettings(format="json")))
    first, second = begin(tracer), begin(tracer)
    assert first.span is second.span is None
    assert first.context.trace_id != second.context.trace_id


def test_where_what_records_is_missing_the_settings_stay_or_all_but_the_traces_is_taken_over(tracer, monkeypatch):
    def missing(extra, why):
        raise MissingExtraError(why, "opentelemetry.sdk", extra)

    monkeypatch.setattr("quorate.deployments.telemetry.tracer.require", missing)
    wanted = replace(ON, logs=LogSettings(format="json"))
    with pytest.raises(MissingExtraError, match=r"quorate\[otel\]"):
        tracer.use(wanted)
    assert tracer.settings == Telemetry()
    tracer.adopt(wanted)
    assert tracer.settings == Telemetry(logs=LogSettings(format="json"))


def test_settings_travel_as_json_and_what_cannot_be_read_is_as_if_nothing_were_set():
    own = replace(ON, endpoint="http://collector:4317", models={"cnn": {"on": False}})
    assert Telemetry.from_json(own.to_json()) == own
    assert Telemetry.from_json(b'{"trace": {"on": "perhaps"}}') == Telemetry()
