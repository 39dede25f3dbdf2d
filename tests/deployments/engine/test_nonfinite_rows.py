"""Rows that no member has a finite answer for are the client's to change; rows that some cannot answer are degraded."""

import asyncio

import grpc
import httpx
import numpy as np
import pytest

from quorate.deployments.wire import open_inference_pb2 as pb

NAN, HUGE = np.array([np.nan, 1], np.float32), np.array([3e38, 3e38], np.float32)


@pytest.fixture(scope="module")
def fragile(open_doors, pair_spec):
    """All choke on NaN and on large rows; c also gives NaN for rows that start with 14, and raises on 13."""
    members = {name: {**member, "model": "known:fragile"} for name, member in pair_spec["members"].items()}
    members["c"] = {**members["a"], "model": "known:picky"}
    fusion = {"rule": "mean", "members": ["a", "b", "c"], "quorum": 2, "deadline_s": 5.0}
    return open_doors({**pair_spec, "name": "fragile", "members": members, "fusion": fusion})


def rows(at, bad, count=5):
    made = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    made[at] = bad
    return made


def ask_http(doors, array, model="fragile", parameters=None):
    tensor = {"name": "x", "datatype": "FP32", "shape": array.shape, "parameters": {"binary_data_size": array.nbytes}}
    head = httpx.Request("POST", "http://a", json={"inputs": [tensor], "parameters": parameters or {}}).content
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return httpx.post(f"{doors.http}/v2/models/{model}/infer", content=head + array.tobytes(), headers=headers)


def ask_grpc(doors, array):
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=array.shape)
    request = pb.ModelInferRequest(model_name="fragile", inputs=[tensor], raw_input_contents=[array.tobytes()])
    with grpc.insecure_channel(doors.grpc) as channel:
        path = "/inference.GRPCInferenceService/ModelInfer"
        stub = channel.unary_unary(path, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        call = stub.future(request, timeout=20)
        return call.code(), call.details()


@pytest.mark.parametrize(("bad", "cause"), [(NAN, "'x' holds NaN or infinity"), (HUGE, "inputs are finite")])
def test_a_row_without_any_finite_answer_is_the_clients_to_change(fragile, bad, cause):
    array = rows(3, bad)
    for parameters in ({}, {"members": "a,b"}):
        reply = ask_http(fragile, array, parameters=parameters)
        assert reply.status_code == 400
        assert "row 3 got no finite answer from a, b" in reply.json()["error"]
        assert cause in reply.json()["error"]
    code, details = ask_grpc(fragile, array)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert cause in details
    assert ask_http(fragile, rows(3, 0.5)).status_code == 200


def test_one_member_asked_alone_says_the_same(fragile):
    reply = ask_http(fragile, rows(2, NAN), model="a")
    assert reply.status_code == 400
    assert "row 2 got no finite answer from a: input 'x' holds NaN" in reply.json()["error"]


def test_a_row_that_a_quorum_can_answer_is_answered(fragile):
    reply = ask_http(fragile, rows(1, [14, 0])).json()["parameters"]
    assert (reply["members_missing"], reply["rows_missing"]) == ("c:nonfinite", "c:1")


def test_a_member_that_failed_otherwise_keeps_it_the_servers_fault(fragile):
    array = rows(1, [13, np.nan])
    assert ask_http(fragile, array).status_code == 400  # with NaN counted as answers, a and b are a quorum
    reply = ask_http(fragile, rows(0, [13, 0], count=1), parameters={"members": "c"})
    assert reply.status_code == 503
    assert "c:error" in reply.json()["error"]


def test_rows_of_others_in_the_batch_are_answered(fragile):
    async def ask(client, number):
        bad = number % 25 == 0  # more in a batch than are looked for would cost others their member
        tensor = {
            "name": "x",
            "datatype": "FP32",
            "shape": [2, 2],
            "data": [0.5, 1, 3e38 if bad else 2, 3e38 if bad else 3],
        }
        reply = await client.post(f"{fragile.http}/v2/models/fragile/infer", json={"inputs": [tensor]})
        return ("row 1 got no finite" if bad else '"degraded":false') in reply.text

    async def all_at_once():
        async with httpx.AsyncClient(timeout=20) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(50)))

    assert all(asyncio.run(all_at_once()))


@pytest.mark.long
def test_a_client_that_keeps_sending_nan_does_not_shut_members_out_for_others(fragile):
    for _ in range(12):
        assert ask_http(fragile, rows(0, NAN, count=1)).status_code == 400
    assert not ask_http(fragile, rows(0, 0.5)).json()["parameters"]["degraded"]
