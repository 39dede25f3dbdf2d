"""What the protocol tells of models beside their answers: true outputs, durations per stage, and what priority does."""

import json
import threading
import time

import grpc
import httpx
import numpy as np
import pytest

from quorate.deployments import Client
from quorate.deployments.errors import OverloadedError, RequestError
from quorate.deployments.wire import open_inference_pb2 as pb

ROW = np.zeros((1, 2), np.float32)


def call(address, name, request, reply):
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            f"/inference.GRPCInferenceService/{name}", type(request).SerializeToString, reply.FromString
        )
        return method(request, timeout=20)


def infer_grpc(doors, model):
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    request.raw_input_contents.append(ROW.tobytes())
    return call(doors.grpc, "ModelInfer", request, pb.ModelInferResponse)


@pytest.fixture(scope="module")
def kinds(open_doors):
    """Members whose outputs are of other types and shapes than FP32 (B, C)."""
    members = {
        name: {"model": f"kinds:{name}", "inputs": ["x"], "output": "values"}
        for name in ("doubles", "whole", "truths", "cube")
    }
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    fusion = {"rule": "mean"}
    return open_doors({"name": "kinds", "inputs": inputs, "members": members, "fusion": fusion})


@pytest.mark.parametrize(
    ("member", "datatype", "shape", "expected"),
    [
        ("doubles", "FP64", [-1, 1], np.array([[3.0], [7.0]])),
        ("whole", "INT64", [-1, 1], np.array([[3], [7]], np.int64)),
        ("truths", "BOOL", [-1, 2], np.array([[True, False], [True, True]])),
        ("cube", "FP32", [-1, 2, 2], np.array([[[1, 2], [1, 2]], [[3, 4], [3, 4]]], np.float32)),
    ],
)
def test_a_member_answers_in_the_type_and_shape_that_its_metadata_says(kinds, member, datatype, shape, expected):
    rows = np.array([[1, 2], [3, 4]], np.float32)
    with Client(kinds.http, model=member) as client:
        (tensor,) = client.metadata()["outputs"]
        values = client.infer(x=rows).outputs["values"]
        answers = list(client.infer_arrow(_table(rows)))
    assert (tensor["datatype"], tensor["shape"]) == (datatype, shape)
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, expected)
    found = np.array(answers[0].batch.column("values").to_pylist(), expected.dtype).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)
    told = call(kinds.grpc, "ModelMetadata", pb.ModelMetadataRequest(name=member), pb.ModelMetadataResponse)
    assert (told.outputs[0].datatype, list(told.outputs[0].shape)) == (datatype, shape)


def _table(rows):
    import pyarrow as pa

    return pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2)})


@pytest.fixture(scope="module")
def counted(open_doors, pair_spec):
    """Nobody else asks it: not even a client that another test has left."""
    return open_doors(pair_spec)


@pytest.mark.parametrize("model", ["pair", "a"])
@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_every_stage_of_a_request_is_counted_and_its_duration_adds_up(counted, model, wire):
    pair = counted

    def stats():
        reply = httpx.get(f"{pair.http}/v2/models/{model}/stats").json()["model_stats"][0]["inference_stats"]
        return {stage: (item["count"], item["ns"]) for stage, item in reply.items()}

    before = stats()
    for _ in range(5):
        if wire == "grpc":
            infer_grpc(pair, model)
        else:
            with Client(pair.http, model=model) as client:
                client.infer(x=ROW)
    after = stats()
    stages = ("queue", "compute_input", "compute_infer", "compute_output")
    for stage in ("success", *stages):
        assert after[stage][0] - before[stage][0] == 5
    assert after["fail"] == before["fail"]
    spent = {stage: after[stage][1] - before[stage][1] for stage in ("success", *stages)}
    assert all(ns > 0 for stage, ns in spent.items() if stage != "queue")
    assert sum(spent[stage] for stage in stages) == spent["success"]
    told = call(pair.grpc, "ModelStatistics", pb.ModelStatisticsRequest(name=model), pb.ModelStatisticsResponse)
    assert told.model_stats[0].inference_stats.compute_infer.ns == after["compute_infer"][1]


def test_the_configuration_tells_the_live_fusion_and_the_levels_of_priority(pair):
    over_http = httpx.get(f"{pair.http}/v2/models/pair/config").json()
    over_grpc = call(pair.grpc, "ModelConfig", pb.ModelConfigRequest(name="pair"), pb.ModelConfigResponse).config
    assert over_http["dynamic_batching"] == {"priority_levels": 3, "default_priority_level": 2}
    assert over_grpc.dynamic_batching.priority_levels == 3
    for told in (over_http["parameters"]["fusion"]["string_value"], over_grpc.parameters["fusion"].string_value):
        assert json.loads(told)["weights"] == {"a": 0.25, "b": 0.75}
    with Client(pair.http, model="pair") as client:
        assert client.infer(x=ROW).parameters["revision"] == over_http["parameters"]["revision"]["string_value"]


@pytest.mark.parametrize("priority", [-1, 1.5, "1", True])
def test_a_priority_that_is_no_whole_number_is_refused(pair, priority):
    with Client(pair.http, model="pair") as client, pytest.raises(RequestError, match="parameter priority"):
        client.infer(x=ROW, priority=priority)


@pytest.mark.parametrize("priority", [0, 1, 3, 99])
def test_any_priority_gets_an_answer_and_one_beyond_the_levels_is_the_default_as_in_triton(pair, priority):
    with Client(pair.http, model="pair") as client:
        assert client.infer(x=ROW, priority=priority).parameters["degraded"] is False


@pytest.fixture
def crowded(open_doors, tmp_path):
    """One slow member, one row a batch, room for four rows: what is asked at once has to wait."""
    switch = tmp_path / "seconds"
    switch.write_text("0")
    member = {"model": "known:slow", "config": {"shift": 0, "switch": str(switch)}, "inputs": ["x"], "output": "values"}
    doors = open_doors(
        {
            "name": "crowded",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {"only": {**member, "max_batch_size": 1}},
            "fusion": {"rule": "mean", "deadline_s": 30.0},
            "serving": {"max_batch_size": 1, "max_queued_rows": 4},
        }
    )
    return doors, switch


@pytest.mark.long
def test_a_full_queue_answers_the_highest_priority_first_and_sheds_the_lowest(crowded):
    doors, switch = crowded
    ended, failures = [], []

    def ask(name, priority):
        with Client(doors.http, model="crowded") as client:
            try:
                client.infer(x=ROW, priority=priority)
                ended.append(name)
            except OverloadedError:
                failures.append(name)

    def start(name, priority, arrived):
        thread = threading.Thread(target=ask, args=(name, priority))
        thread.start()
        until = time.monotonic() + 60
        while not arrived() and time.monotonic() < until:
            time.sleep(0.005)
        assert arrived(), name
        return thread

    engine = doors.engine
    switch.write_text("hold")
    # Two are under way at once; all that follows waits.
    threads = [start(f"first {n}", 2, lambda n=n: engine.unanswered_batches == n + 1) for n in range(2)]
    threads += [start(f"low {n}", 3, lambda n=n: engine.queued_rows == n + 1) for n in range(4)]
    threads += [
        start(name, priority, lambda n=n: len(failures) == n)
        for n, (name, priority) in enumerate([("high", 1), ("normal", 2), ("one too many", 3)], 1)
    ]
    switch.write_text("0.2")  # far enough apart that the clients' threads keep the order
    for thread in threads:
        thread.join()
    assert failures == ["low 3", "low 2", "one too many"]
    assert set(ended[:2]) == {"first 0", "first 1"}
    assert ended[2:] == ["high", "normal", "low 0", "low 1"]
