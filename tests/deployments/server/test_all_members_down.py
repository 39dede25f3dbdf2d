"""When no member is left both doors refuse with the reason and a time to ask again; they never answer a constant."""

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
