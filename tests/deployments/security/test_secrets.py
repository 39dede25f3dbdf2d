"""Secrets that were put into the environment, into requests and into configs are in no log, no metric and no run."""

import json
import logging
import os

import grpc
import httpx
import pytest

from quorate.deployments.wire import open_inference_pb2 as pb

SECRET = "canary-5f1e77c0ffee"


@pytest.fixture
def logged(caplog, capfd, monkeypatch):
    """All that is logged, and written to the terminal, at the most talkative level."""
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with caplog.at_level(logging.DEBUG):
        yield lambda: caplog.text + "".join(capfd.readouterr())


def bodies():
    item = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    for field in ("name", "datatype", "data", "shape"):
        yield {"inputs": [{**item, field: SECRET}]}
    yield {"inputs": [item], "id": SECRET, "parameters": {SECRET: SECRET}}
    yield {"inputs": [item], "parameters": {"members": SECRET}}
    yield {"inputs": [item], "outputs": [{"name": SECRET}]}
    yield {SECRET: SECRET}


CONFIGS: tuple[dict[str, dict[str, object]], ...] = (
    {"fusion": {"rule": SECRET}},
    {"fusion": {"options": {SECRET: SECRET}}},
    {SECRET: {}},
)
HEADERS = {"Authorization": f"Bearer {SECRET}", "Cookie": SECRET, "X-Api-Key": SECRET, "Traceparent": SECRET}


def test_no_secret_of_a_request_or_of_the_environment_is_logged_counted_or_shown(logged, pair):
    assert os.environ["DATABASE_PASSWORD"] == SECRET
    asked = 0
    with httpx.Client(base_url=pair.http, headers=HEADERS, timeout=30) as client:
        for body in bodies():
            for path in ("/v2/models/pair/infer", f"/v2/models/{SECRET}/infer", f"/v2/models/a/infer?key={SECRET}"):
                client.post(path, json=body)
                asked += 1
        for config in CONFIGS:
            text = json.dumps({"parameters": {"config": json.dumps(config)}})
            client.post("/v2/repository/models/pair/load", content=text)
        client.post("/v2/models/pair/infer", content=SECRET.encode())
    shown = [
        httpx.get(f"{pair.http}{path}", timeout=30).text
        for path in ("/metrics", "/", "/v2", "/v2/models/pair", "/v2/models/pair/config", "/v2/models/pair/stats")
    ]
    with grpc.insecure_channel(pair.grpc) as channel:
        stub = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", response_deserializer=bytes)
        request = pb.ModelInferRequest(model_name=SECRET, id=SECRET)
        stub.future(request.SerializeToString(), timeout=20, metadata=[("authorization", SECRET)]).code()
    assert asked == 24
    assert any("quorate" in text for text in shown)
    assert SECRET not in "".join(shown)
    said = logged()
    # httpx, the client here, logs the addresses that it asks.
    ours = [line for line in said.splitlines() if "httpx" not in line and "httpcore" not in line]
    assert not [line for line in ours if SECRET in line]


def test_a_secret_that_is_logged_is_found(logged):
    logging.getLogger("quorate").info("the key is %s", SECRET)
    assert SECRET in logged()
