"""When no member is left, or one is gone that is required, both doors refuse; they never answer a constant or a guess.

The refusal has the reason and a time to ask again.
"""

import grpc
import httpx
import numpy as np
import pytest

from quorate.deployments import Client
from quorate.deployments.errors import RemoteOverloadedError, RemoteUnavailableError
from quorate.deployments.wire import open_inference_pb2 as pb

JSON = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
REASON = "fusion needs 1 of 2 members but got 0 (missing: a:dead, b:dead)"


@pytest.fixture(scope="module")
def doors(open_doors, pair_spec):
    doors = open_doors({**pair_spec, "name": "deserted"})
    assert httpx.post(f"{doors.http}/v2/models/deserted/infer", json=JSON).status_code == 200
    doors.stop_members()
    return doors


def test_http_says_unavailable(doors):
    for _ in range(20):
        reply = httpx.post(f"{doors.http}/v2/models/deserted/infer", json=JSON)
        assert reply.status_code == 503
        assert reply.json()["error"].startswith(REASON)
        assert reply.headers["retry-after"] == "1"
        assert reply.elapsed.total_seconds() < doors.engine.spec.fusion.deadline_s
    assert httpx.get(f"{doors.http}/v2/health/ready").status_code != 200


def test_grpc_says_unavailable(doors):
    rows = np.array([[1, 2]], np.float32)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=rows.shape)
    request = pb.ModelInferRequest(model_name="deserted", inputs=[tensor], raw_input_contents=[rows.tobytes()])
    with grpc.insecure_channel(doors.grpc) as channel:
        path = "/inference.GRPCInferenceService/ModelInfer"
        infer = channel.unary_unary(path, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        for _ in range(20):
            with pytest.raises(grpc.RpcError) as error:
                infer(request, timeout=20)
            assert error.value.code() == grpc.StatusCode.UNAVAILABLE
            assert error.value.details().startswith(REASON)
            assert ("grpc-retry-pushback-ms", "1000") in error.value.trailing_metadata()


def test_the_client_says_unavailable_and_not_overloaded(doors):
    with Client(doors.http, model="deserted", retries=0) as client, pytest.raises(RemoteUnavailableError) as error:
        client.infer(x=np.array([[1, 2]], np.float32))
    assert not isinstance(error.value, RemoteOverloadedError)
    assert error.value.retry_after_s == 1


@pytest.mark.long
def test_while_a_required_member_is_gone_both_doors_refuse_and_answer_no_guess(open_doors, pair_spec):
    doors = open_doors({**pair_spec, "name": "headless", "fusion": {**pair_spec["fusion"], "required": ["a"]}})
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    assert httpx.post(f"{doors.http}/v2/models/headless/infer", json=body).status_code == 200
    doors.stop_members("a")
    request = pb.ModelInferRequest(model_name="headless", raw_input_contents=[np.ones(2, np.float32).tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    with grpc.insecure_channel(doors.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest.SerializeToString
        )
        for _ in range(20):
            reply = httpx.post(f"{doors.http}/v2/models/headless/infer", json=body)
            assert reply.status_code == 503
            assert "always a but got 1 (missing: a:dead)" in reply.json()["error"]
            call = infer.future(request, timeout=20)
            assert call.code() == grpc.StatusCode.UNAVAILABLE
            assert "a:dead" in call.details()
