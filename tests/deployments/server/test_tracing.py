"""Requests as an OTLP receiver sees them: over both doors, to members and back, also where they travel together."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest

from quorate.deployments.telemetry.settings import Telemetry, TraceSettings
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.support.otlp_receiver import OtlpReceiver
from tests.deployments.support.waiting import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-00"
ROWS = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.0]}]}


@pytest.fixture(scope="module")
def receiver():
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def doors(open_doors, pair_spec, receiver):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        doors = open_doors({**pair_spec, "name": "traced"})
        use(doors, Telemetry(receiver.endpoint, TraceSettings(on=True, ratio=0.0)))
        yield doors
        use(doors, Telemetry())


def use(doors, settings):
    doors.server.call(doors.engine.telemetry.use(settings))


def ask(doors, traceparent=None, **more):
    headers = {} if traceparent is None else {"traceparent": traceparent}
    return httpx.post(f"{doors.http}/v2/models/traced/infer", json={**ROWS, **more}, headers=headers, timeout=30)


def traceparent(number, flags="01"):
    return f"00-{number:032x}-00f067aa0ba902b7-{flags}"


def test_a_request_is_one_trace_from_the_door_to_the_forward_passes(doors, receiver):
    reply = ask(doors, SAMPLED, id="seven")
    found = receiver.wait(lambda spans: len([s for s in spans if s.trace_id == TRACE]) >= 8)
    by_name = {span.name: span for span in found if span.trace_id == TRACE}
    door, batch = by_name["POST /v2/models/{model}/infer"], by_name["batch"]
    assert set(by_name) == {door.name, "queue", "batch", "call a", "call b", "forward a", "forward b", "fuse"}
    parents = {name: span.parent for name, span in by_name.items()}
    assert parents == {
        door.name: "00f067aa0ba902b7",
        "queue": door.span_id, "batch": door.span_id,
        "call a": batch.span_id, "call b": batch.span_id, "fuse": batch.span_id,
        "forward a": by_name["call a"].span_id, "forward b": by_name["call b"].span_id,
    }  # fmt: skip
    assert re.fullmatch(f"00-{TRACE}-{door.span_id}-0[13]", reply.headers["traceparent"])
    said = door.attributes
    assert (said["http.response.status_code"], said["quorate.request_id"]) == (200, "seven")
    assert (said["quorate.members_used"], said["quorate.degraded"]) == ("a,b", False)
    assert by_name["forward a"].attributes["quorate.rows"] == 1
    assert by_name["forward a"].attributes["quorate.queue_wait_s"] >= 0
    assert not any(span.failed for span in by_name.values())


def test_requests_that_travel_together_are_linked_to_the_batch_of_the_first(open_doors, receiver, tmp_path):
    """Two batches are out that nobody has answered, and so the other requests gather for the third."""
    switch = tmp_path / "switch"
    switch.write_text("0")
    member = {"model": "known:slow", "config": {"shift": 1, "switch": str(switch)}, "inputs": ["x"]}
    held = open_doors(
        {
            "name": "held",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {"a": {**member, "output": "values"}},
            "fusion": {"rule": "mean", "deadline_s": 30.0},
        }
    )
    use(held, Telemetry(receiver.endpoint, TraceSettings(on=True, ratio=0.0)))
    switch.write_text("hold")
    url, numbers = f"{held.http}/v2/models/held/infer", range(101, 109)
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(8) as pool:
        calls = []
        for number in numbers:
            calls.append(pool.submit(client.post, url, json=ROWS, headers={"traceparent": traceparent(number)}))
            until(lambda: held.engine.unanswered_batches == min(len(calls), 2))
        until(lambda: held.engine.queued_rows == 6)
        switch.write_text("0")
        assert [call.result().status_code for call in calls] == [200] * 8
    use(held, Telemetry())  # its last spans are sent
    mine = {f"{number:032x}" for number in numbers}

    def calls_run(spans):
        return sum(s.attributes["quorate.calls"] for s in spans if s.trace_id in mine and s.name == "forward a")

    found = receiver.wait(
        lambda spans: calls_run(spans) == 3 and sum(s.name == "fuse" and s.trace_id in mine for s in spans) == 3
    )
    spans = [span for span in found if span.trace_id in mine]
    batches = sorted([span for span in spans if span.name == "batch"], key=lambda span: len(span.links))
    assert [batch.attributes["quorate.requests"] for batch in batches] == [1, 1, 6]
    joined = batches[-1]
    doors_of = {span.trace_id: span.span_id for span in spans if span.name.startswith("POST")}
    others = {span.trace_id for span in spans if span.name == "queue" and span.links == {joined.span_id}}
    assert joined.links == {doors_of[trace] for trace in others}
    assert len(others) == 5
    parts = [span for span in spans if span.parent == joined.span_id]
    assert {span.name for span in parts} == {"call a", "fuse"}
    forwards = [span for span in spans if span.name == "forward a"]
    assert sum(span.attributes["quorate.rows"] for span in forwards) == 8


def test_a_trace_that_its_caller_does_not_record_is_passed_on_and_not_recorded(doors, receiver):
    before = len(receiver.spans)
    reply = ask(doors, traceparent(201, "00"))
    assert reply.headers["traceparent"] == traceparent(201, "00")
    ask(doors, traceparent(202))
    found = receiver.wait(lambda spans: any(span.trace_id == f"{202:032x}" for span in spans))
    assert not [span for span in found[before:] if span.trace_id == f"{201:032x}"]


@pytest.mark.parametrize("given", ["", "00-1-2-01", f"ff-{TRACE}-00f067aa0ba902b7-01", SAMPLED.upper()])
def test_a_header_that_is_no_trace_is_as_if_it_were_not_there(doors, given):
    reply = ask(doors, given)
    assert (reply.status_code, "traceparent" in reply.headers) == (200, False)


def test_over_grpc_the_trace_comes_and_goes_as_metadata_and_each_message_of_a_stream_has_a_span(doors, receiver):
    message = pb.ModelInferRequest(model_name="traced")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([0.5, -1.0])
    with grpc.insecure_channel(doors.grpc) as channel:
        ask_one = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        metadata = (("traceparent", traceparent(301)), ("tracestate", "vendor=1"))
        _, call = ask_one.with_call(message, metadata=metadata, timeout=30)
        told = dict(call.initial_metadata())
        ask_many = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        assert len(list(ask_many(iter([message] * 3), metadata=(("traceparent", traceparent(302)),), timeout=30))) == 3
    prefix = "inference.GRPCInferenceService/"
    found = receiver.wait(lambda spans: len([s for s in spans if s.name == f"{prefix}ModelStreamInfer"]) >= 3)
    (one,) = [span for span in found if span.name == f"{prefix}ModelInfer"]
    assert told["traceparent"].split("-")[1:3] == [f"{301:032x}", one.span_id]
    assert told["tracestate"] == one.span.trace_state == "vendor=1"
    assert (one.attributes["rpc.system"], one.attributes["rpc.grpc.status_code"]) == ("grpc", 0)
    assert {span.trace_id for span in found if span.name == f"{prefix}ModelStreamInfer"} == {f"{302:032x}"}


def test_a_member_asked_alone_and_the_first_protocol_are_traced_too(doors, receiver):
    httpx.post(f"{doors.http}/v2/models/a/infer", json=ROWS, headers={"traceparent": traceparent(401)}, timeout=30)
    httpx.post(
        f"{doors.http}/v1/models/traced:predict",
        json={"instances": [[0.5, -1.0]]},
        headers={"traceparent": traceparent(402)},
        timeout=30,
    )
    lines = "\n".join([json.dumps(ROWS)] * 2)
    httpx.post(
        f"{doors.http}/v2/models/traced/infer",
        content=lines,
        headers={"traceparent": traceparent(403), "content-type": "application/x-ndjson"},
        timeout=30,
    )

    def names(spans, number):
        return sorted(span.name for span in spans if span.trace_id == f"{number:032x}")

    alone = ["POST /v2/models/{model}/infer", "call a", "forward a"]
    found = receiver.wait(
        lambda spans: (
            names(spans, 401) == alone
            and "fuse" in names(spans, 402)
            and names(spans, 403).count("POST /v2/models/{model}/infer") == 2
        )
    )
    assert "POST /v1/models/{model}:predict" in names(found, 402)


def test_a_request_that_is_wrong_is_no_failure_of_the_server(doors, receiver):
    reply = httpx.post(
        f"{doors.http}/v2/models/traced/infer", content=b"{", headers={"traceparent": traceparent(501)}, timeout=30
    )
    assert reply.headers["traceparent"].split("-")[1] == f"{501:032x}"
    found = receiver.wait(lambda spans: any(span.trace_id == f"{501:032x}" for span in spans))
    (door,) = [span for span in found if span.trace_id == f"{501:032x}"]
    assert (door.attributes["http.response.status_code"], door.attributes["error.type"]) == (400, "RequestError")
    assert not door.failed


def test_a_share_is_drawn_of_requests_that_come_without_a_trace_and_so_many_at_most(doors, receiver):
    settings = f"{doors.http}/v2/trace/setting"
    before = {span.trace_id for span in receiver.spans}
    try:
        changed = httpx.post(settings, json={"trace_rate": "1", "trace_count": "2"}, timeout=30).json()
        assert (changed["trace_level"], changed["trace_count"]) == (["TIMESTAMPS"], "2")
        replies = [ask(doors) for _ in range(4)]
        assert ["traceparent" in reply.headers for reply in replies] == [True, True, False, False]
        assert httpx.get(settings, timeout=30).json()["trace_count"] == "0"
        drawn = {reply.headers["traceparent"].split("-")[1] for reply in replies[:2]}
        receiver.wait(lambda spans: drawn <= {span.trace_id for span in spans} - before)
        of_model = httpx.post(f"{doors.http}/v2/models/a/trace/setting", json={"trace_level": ["OFF"]}, timeout=30)
        assert of_model.json()["trace_level"] == ["OFF"]
        reply = httpx.post(f"{doors.http}/v2/models/a/infer", json=ROWS, headers={"traceparent": SAMPLED}, timeout=30)
        assert reply.headers["traceparent"] == SAMPLED  # passed on
    finally:
        use(doors, Telemetry(receiver.endpoint, TraceSettings(on=True, ratio=0.0)))


@pytest.mark.parametrize(
    ("path", "settings", "status", "sentence"),
    [
        ("trace/setting", {"trace_level": ["TENSORS"]}, 400, "rows stay out of traces"),
        ("trace/setting", {"trace_level": ["OFF", "TIMESTAMPS"]}, 400, "Expect only one trace level"),
        ("trace/setting", {"trace_rate": "often"}, 400, "Unable to parse 'trace_rate', got: 'often'"),
        ("trace/setting", {"trace_count": "-2"}, 400, "give a whole number from -1"),
        ("trace/setting", {"log_frequency": "5"}, 400, "traces go out by OTLP"),
        ("trace/setting", {"trace_sum": "5"}, 400, "give trace_level, trace_rate, trace_count"),
        ("models/nobody/trace/setting", {"trace_rate": "5"}, 404, "unknown model"),
        ("logging", {"log_verbose_level": -1}, 400, "give a whole number from 0"),
        ("logging", {"log_format": "xml"}, 400, "give default, ISO8601, json"),
        ("logging", {"log_info": "yes"}, 400, "give true or false"),
    ],
)
def test_a_setting_that_is_none_is_refused_with_what_to_give(doors, path, settings, status, sentence):
    reply = httpx.post(f"{doors.http}/v2/{path}", json=settings, timeout=30)
    assert (reply.status_code, sentence in reply.json()["error"]) == (status, True), reply.text


def test_models_of_other_servers_are_told_of_the_trace_over_http_and_grpc(open_doors, doors, receiver, pair_spec):
    member = {"inputs": ["x"], "output": "probabilities"}
    far = open_doors(
        {
            **pair_spec,
            "name": "far",
            "members": {
                "h": {**member, "model": f"{doors.http}/v2/models/traced"},
                "g": {**member, "model": f"grpc:{doors.grpc}/traced"},
            },
            "fusion": {"rule": "mean", "deadline_s": 20.0},
        }
    )
    use(far, Telemetry(receiver.endpoint, TraceSettings(on=True, ratio=0.0)))
    url = f"{far.http}/v2/models/far/infer"
    told = httpx.post(url, json=ROWS, headers={"traceparent": traceparent(601)}, timeout=30)
    assert told.status_code == 200
    use(far, Telemetry())
    names = {"forward h": "POST /v2/models/{model}/infer", "forward g": "inference.GRPCInferenceService/ModelInfer"}

    def asked(spans):
        """Spans of the doors of the other server, and of the members that asked them."""
        of_trace = [span for span in spans if span.trace_id == f"{601:032x}"]
        there = [span for span in of_trace if span.service == "traced" and span.name in names.values()]
        return there + [span for span in of_trace if span.name in names]

    found = receiver.wait(lambda spans: len(asked(spans)) >= 4)
    mine = [span for span in found if span.trace_id == f"{601:032x}"]
    for forward, door in names.items():
        (caller,) = [span for span in mine if span.name == forward]
        assert [span.service for span in mine if span.name == door and span.parent == caller.span_id] == ["traced"]
