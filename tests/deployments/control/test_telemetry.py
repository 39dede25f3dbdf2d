"""Traces and logs of an ensemble on a cluster: told when it is deployed, changed at its door while it runs."""

import json

import httpx
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import DeployError
from quorate.deployments.telemetry.settings import Telemetry, check_told, told
from tests.deployments.support.otlp_receiver import OtlpReceiver

CODE = """
def picky():
    print("the vocabulary is there")

    def model(x):
        print("asked")
        if (x > 10).any():
            raise KeyError("no such feature")
        return x
    return model
"""
TRACE = f"{77:032x}"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def spec():
    member = {"model": "traced_members:picky", "inputs": ["x"], "output": "values", "resources": {"num_cpus": 0.1}}
    return parse_spec(
        {
            "name": "telemetry",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {"m": member, "n": member},
            "fusion": {"rule": "mean", "deadline_s": 20.0},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )


def ask(url, identity, value):
    row = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [value, 0.0]}
    body, headers = {"id": identity, "inputs": [row]}, {"traceparent": PARENT}
    return httpx.post(f"{url}/v2/models/telemetry/infer", json=body, headers=headers, timeout=60)


def test_traces_go_where_deploy_says_and_lines_are_json_with_the_ids_of_requests(cluster, tmp_path):
    from quorate.deployments.control.deploy import delete, deploy
    from quorate.deployments.control.member_logs import logs_on_nodes
    from quorate.deployments.control.ray_private import ClusterStore
    from quorate.deployments.records.registry import Registry

    (tmp_path / "traced_members.py").write_text(CODE)
    with OtlpReceiver() as receiver:
        done = deploy(spec(), tmp_path, telemetry=lambda old: told(old, receiver.endpoint, 0.0, "json"))
        verbose = httpx.post(f"{done.http}/v2/logging", json={"log_verbose_level": 2}, timeout=60)
        assert verbose.json()["log_format"] == "json"
        registry = Registry(ClusterStore())
        assert registry.telemetry("telemetry").logs.verbose == 2
        reply = ask(done.http, "seven", 0.0)
        assert (reply.status_code, reply.headers["traceparent"].split("-")[1]) == (200, TRACE)
        assert ask(done.http, "eight", 11.0).status_code == 503
        off = httpx.post(f"{done.http}/v2/trace/setting", json={"trace_level": ["OFF"]}, timeout=60)
        assert off.json()["trace_level"] == ["OFF"]  # and what was recorded is sent
        spans = receiver.wait(
            lambda spans: len(spans) >= 15
        )  # eight of the first request, as many but one of the other
    first = [span for span in spans if span.trace_id == TRACE]
    assert len(first) >= 5
    assert len({span.pid for span in first}) == 3
    assert {span.service for span in first} == {"telemetry", "telemetry/m", "telemetry/n"}
    lines: dict[str, list[dict]] = {}
    for log in logs_on_nodes(("telemetry",), None)[0]:
        lines.setdefault(log.member, []).extend(json.loads(line) for line in log.text.splitlines())
    assert set(lines) == {"m", "n", "@doors"}
    (loaded,) = [line for line in lines["m"] if line["message"] == "the vocabulary is there"]
    assert "request_id" not in loaded
    # Warming up, and telling a broken replica from broken rows, is for nobody.
    asked = [line for line in lines["m"] if line["message"] == "asked" and "request_id" in line]
    assert {(line["ensemble"], line["member"], line["revision"]) for line in asked} == {
        ("telemetry", "m", done.revision)
    }
    assert {(line["request_id"], line["trace_id"]) for line in asked} == {("seven", TRACE), ("eight", TRACE)}
    (failure,) = [line for line in lines["m"] if line["level"] == "ERROR"]
    assert "KeyError: 'no such feature'" in failure["message"]
    assert "Traceback" in failure["message"]
    assert (failure["request_id"], failure["trace_id"]) == ("eight", TRACE)
    answered, failed = [line for line in lines["@doors"] if " rows for telemetry in " in line["message"]]
    assert (answered["request_id"], failed["request_id"]) == ("seven", "eight")
    assert "answered" in answered["message"]
    assert "QuorumError" in failed["message"]
    delete("telemetry")
    assert registry.telemetry("telemetry") == Telemetry()


@pytest.mark.parametrize(
    ("endpoint", "ratio", "form", "sentence"),
    [
        ("collector:4317", None, None, "give the receiver's URL, such as http://collector:4317"),
        ("http://user:secret@collector", None, None, "give the receiver's URL"),
        (None, 1.5, None, "give a share from 0 to 1"),
        (None, None, "xml", "give text or json"),
    ],
)
def test_what_deploy_cannot_use_is_refused(endpoint, ratio, form, sentence):
    with pytest.raises(DeployError, match=sentence):
        check_told(endpoint, ratio, form)


def test_an_endpoint_turns_traces_on_for_a_share_and_an_empty_one_off():
    on = told(Telemetry(), "http://collector:4317", None, None)
    assert (on.trace.on, on.trace.ratio) == (True, 0.01)
    more = told(on, None, 0.5, "json")
    assert (more.endpoint, more.trace.ratio, more.logs.format) == (on.endpoint, 0.5, "json")
    off = told(more, "", None, "text")
    assert (off.traces, off.logs.format) == (False, "default")
