"""One request over every wire gives one answer, bit for bit."""

import random

import grpc
import httpx
import numpy as np
import orjson
import pytest

from quorate.deployments import Client
from quorate.deployments import open_inference_pb2 as pb


def random_request(rng):
    """Rows of any finite size that no member overflows on, and parameters."""
    rows = np.random.default_rng(rng.randrange(2**32)).normal(size=(rng.randrange(1, 9), 2)).astype(np.float32)
    rows *= np.float32(10.0 ** rng.randrange(-30, 4))
    parameters = {"explain": rng.random() < 0.3}
    if rng.random() < 0.5:
        parameters["members"] = rng.choice(["a", "b", "a,b"])
    return rng.choice(["pair", "pair", "pair", "a", "b"]), rows, parameters


def over_json(http, model, rows, parameters):
    data = (rows if rows.size % 4 else rows.ravel()).tolist()
    tensor = {"name": "x", "datatype": "FP32", "shape": rows.shape, "data": data}
    reply = http.post(f"/v2/models/{model}/infer", content=orjson.dumps({"inputs": [tensor], "parameters": parameters}))
    assert reply.status_code == 200, reply.text
    return {
        tensor["name"]: np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        for tensor in reply.json()["outputs"]
    }


def over_grpc(infer, model, rows, parameters, raw):
    request = pb.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    if raw:
        request.raw_input_contents.append(rows.tobytes())
    else:
        tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    for key, value in parameters.items():
        field = "bool_param" if isinstance(value, bool) else "string_param"
        setattr(request.parameters[key], field, value)
    reply = infer(request, timeout=20)
    return {
        tensor.name: np.frombuffer(content, np.float32).reshape(tensor.shape)
        for tensor, content in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_random_requests_get_identical_answers_over_json_binary_grpc_raw_and_grpc_typed(pair, seed):
    rng = random.Random(seed)
    path = "/inference.GRPCInferenceService/ModelInfer"
    messages = pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    with (
        grpc.insecure_channel(pair.grpc) as channel,
        httpx.Client(base_url=pair.http) as http,
        Client(pair.http) as own,
    ):
        infer = channel.unary_unary(path, *messages)
        for _ in range(250):
            model, rows, parameters = random_request(rng)
            expected = over_json(http, model, rows, parameters)
            others = {
                "HTTP binary": own.infer(model, {"x": rows}, **parameters).outputs,
                "gRPC raw": over_grpc(infer, model, rows, parameters, raw=True),
                "gRPC typed": over_grpc(infer, model, rows, parameters, raw=False),
            }
            for wire, found in others.items():
                assert found.keys() == expected.keys(), wire
                for name, values in expected.items():
                    np.testing.assert_array_equal(found[name], values, err_msg=f"{wire} {name} {model} {rows}")
