"""Lines of a log, as text and as JSON, with and without somebody they are for."""

import datetime
import json
import logging

import pytest

from quorate.deployments.logs.files import LogFile, read_logs
from quorate.deployments.logs.handler import DOORS, KeptLog
from quorate.deployments.telemetry.call_context import CallContext
from quorate.deployments.telemetry.current import stop_working, work_for
from quorate.deployments.telemetry.settings import LogSettings
from quorate.deployments.telemetry.trace_context import TraceContext

TRACES = f"{7:032x}", f"{8:032x}"
WHOM = CallContext(TraceContext(7, 9, 1), "r1", (("seven", TRACES[0]), ("", TRACES[1])))


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path))
    return LogFile("digits", "cnn", "one", "10.0.0.1")


def lines():
    (kept,) = read_logs(("digits",))
    return kept.text.splitlines()


def write(log, text, **settings):
    log.use(LogSettings(**settings))
    token = work_for(lambda: WHOM)
    try:
        log.write(text, "error")
    finally:
        stop_working(token)


def test_text_names_the_requests_in_its_first_line(log):
    write(log, "failed\nTraceback")
    log.write("nobody")
    first, second, third = lines()
    assert first.endswith(f"[revision r1, request seven, trace {TRACES[0]}, trace {TRACES[1]}] failed")
    assert (second, third.split(" ", 2)[2]) == ("Traceback", "nobody")


def test_json_is_one_object_a_text_with_the_ids_of_the_first_request_and_of_those_with_it(log):
    write(log, "failed\nTraceback", format="json")
    (line,) = map(json.loads, lines())
    at = datetime.datetime.fromisoformat(line.pop("time").replace("Z", "+00:00"))
    assert abs(datetime.datetime.now(datetime.timezone.utc) - at) < datetime.timedelta(minutes=5)
    assert line == {
        "level": "ERROR", "ensemble": "digits", "member": "cnn", "replica": "one", "node": "10.0.0.1",
        "revision": "r1", "request_id": "seven", "trace_id": TRACES[0], "span_id": f"{9:016x}",
        "batched_with": [{"trace_id": TRACES[1]}], "message": "failed\nTraceback",
    }  # fmt: skip


def test_levels_that_are_off_are_not_written(log):
    log.use(LogSettings(info=False))
    log.write("not this")
    log.write("this", "warning")
    write(log, "nor this", error=False)
    assert [line.split(" ", 2)[2] for line in lines()] == ["this"]


def test_what_our_own_code_logs_is_kept_under_the_doors_name(tmp_path, monkeypatch):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path))
    handler = KeptLog(LogFile("digits", DOORS, "one"))
    record = logging.LogRecord("quorate.x", logging.ERROR, "f", 1, "a batch of %d was lost", (3,), None)
    handler.emit(record)
    (kept,) = read_logs(("digits",), DOORS)
    assert kept.text.endswith("a batch of 3 was lost\n")
