"""How sure answers are, over every wire: each row of a request has its own set, whatever it travelled with."""

import grpc
import numpy as np
import orjson
import pyarrow as pa
import pytest

from quorate.deployments import Client
from quorate.deployments.wire import open_inference_pb2 as pb
from tests.deployments.server.test_protocol_arrow import ROWS, fused, known, table

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def doors(open_doors, pair_spec):
    fitted = [{"members": ["a", "b"], "threshold": 0.7}, {"members": ["b"], "threshold": 0.5}]
    fusion = {**pair_spec["fusion"], "conformal": {"coverage": 0.9, "thresholds": fitted}}
    return open_doors({**pair_spec, "name": "sure", "fusion": fusion})


def expected(probabilities, threshold):
    names = ["red", "green", "blue"]
    return [[name for name, p in zip(names, row, strict=True) if 1 - p <= threshold] for row in probabilities]


def test_a_client_reads_the_set_of_each_row(doors):
    with Client(doors.http, model="sure") as client:
        result = client.infer(x=ROWS[:50])
        assert result.prediction_sets == expected(fused(ROWS[:50]), 0.7)
        assert result.prediction_intervals is None
        assert result.parameters["conformal_coverage"] == 0.9
        assert client.infer(x=ROWS[:5], members="b").prediction_sets == expected(known(-2, ROWS[:5]), 0.5)
        assert client.infer(x=ROWS[:5], members="a").prediction_sets == [None] * 5


def test_grpc_says_the_same(doors):
    request = pb.ModelInferRequest(model_name="sure")
    request.inputs.add(name="x", datatype="FP32", shape=[20, 2])
    request.raw_input_contents.append(ROWS[:20].tobytes())
    path = "/inference.GRPCInferenceService/ModelInfer"
    messages = pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    with grpc.insecure_channel(doors.grpc) as channel:
        reply = channel.unary_unary(path, *messages)(request, timeout=30)
    said = orjson.loads(reply.parameters["prediction_sets"].string_param)
    assert said == expected(fused(ROWS[:20]), 0.7)
    assert reply.parameters["conformal_coverage"].double_param == 0.9


def test_pieces_of_a_stream_keep_to_their_own_rows(doors):
    with Client(doors.http, model="sure") as client:
        answers = list(client.infer_arrow(pa.Table.from_batches(table().to_batches(max_chunksize=70))))
    said = [one for answer in answers for one in orjson.loads(answer.parameters["prediction_sets"])]
    assert said == expected(fused(), 0.7)
    assert [len(answer.batch) for answer in answers] == [
        len(orjson.loads(answer.parameters["prediction_sets"])) for answer in answers
    ]
    np.testing.assert_allclose(
        np.concatenate([answer.batch.column("fused").flatten().to_numpy() for answer in answers]).reshape(-1, 3),
        fused(),
        atol=1e-6,
    )
