"""The same file online and offline: a member that tells what it got gets the same bytes by ``tune`` and by a door."""

import json
from typing import Any

import grpc
import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from quorate.cluster.arguments.labelled_rows import read_rows
from quorate.cluster.operations.query import query
from quorate.cluster.operations.query_file import query_file
from quorate.deployments import Client
from quorate.deployments.client.inputs import as_input
from quorate.deployments.errors import RequestError
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.binary_tensors import encode
from quorate.tuning import run_in_process
from tests.deployments.support.member_threads import FACTORIES

RNG = np.random.default_rng(0)
# As pandas makes them: float64, int64, text with gaps, lists.
FRAME = pd.DataFrame(
    {
        "Age": [39.5, None, 51, 1e-3], "job": ["clerk", None, "", "caf\u00e9 NA"], "hours": [40, 13, 0, -5],
        "member": [True, False, False, True], "image": RNG.normal(size=(4, 6)).tolist(), "label": [1.0, 2, 3, 4],
    }
)  # fmt: skip
COLUMNS = {"age": "Age", "pair": "Age,hours"}


@pytest.fixture(scope="module")
def seen(open_doors):
    inputs = {
        "age": {"datatype": "FP32", "shape": []}, "job": {"datatype": "BYTES", "shape": [1]},
        "hours": {"datatype": "INT16", "shape": [1]}, "member": {"datatype": "BOOL", "shape": []},
        "image": {"datatype": "BF16", "shape": [1, 2, 3]}, "pair": {"datatype": "FP64", "shape": [2]},
    }  # fmt: skip
    member = {"model": "seen:digests", "inputs": list(inputs), "output": "values"}
    return open_doors({"name": "seen", "inputs": inputs, "members": {"m": member}, "fusion": {"rule": "mean"}})


@pytest.mark.parametrize("name", ["rows.parquet", "rows.feather", "rows.json", "rows.jsonl", "frame"])
def test_a_member_gets_the_same_bytes_from_a_file_online_and_offline(seen, tmp_path, name):
    rows = FRAME
    if name != "frame":
        rows = tmp_path / name
        if name == "rows.jsonl":
            rows.write_text("\n".join(json.dumps(record) for record in json.loads(FRAME.to_json(orient="records"))))
        else:
            getattr(FRAME, f"to_{name.partition('.')[2]}")(rows)
    spec = seen.engine.spec
    offline = run_in_process(spec.job("m"), FACTORIES, read_rows(spec, rows, "label", columns=COLUMNS).inputs)
    online = query("seen", rows, url=seen.http, columns=COLUMNS).outputs["fused"]
    np.testing.assert_array_equal(offline, online)
    assert len(np.unique(online, axis=0)) == 4
    expected = run_in_process(spec.job("m"), FACTORIES, read_rows(spec, FRAME, "label", columns=COLUMNS).inputs)
    np.testing.assert_array_equal(online, expected)  # whatever file it was
    done = query_file("seen", rows, tmp_path / "answers.parquet", url=seen.http, columns=COLUMNS)
    assert done.rows == 4
    bulk = np.stack(pd.read_parquet(tmp_path / "answers.parquet")["fused"])
    np.testing.assert_array_equal(bulk, online)


# A table by the short form, read by a member of all inputs.
INPUTS = {"age": "FP32", "half": "FP16", "brain": "BF16", "wide": "FP64", "job": "BYTES", "n": "INT64"}
SHORT = {
    "name": "short", "inputs": INPUTS, "fusion": {"rule": "mean"},
    "members": {"m": {"model": "seen:digests", "inputs": ["all"], "output": "values"}},
}  # fmt: skip
NUMBERS = [1.5, None, -2.0]
HALVES = pa.array(np.array([1.5, 0, -2], np.float16), pa.float16(), mask=np.array([False, True, False]))
TABLE = pa.table(
    {
        "age": pa.array(NUMBERS, pa.float32()), "half": HALVES, "wide": pa.array(NUMBERS),
        "brain": pa.array([b"\xc0\x3f", None, b"\x00\xc0"], pa.binary(2)), "job": ["clerk", None, ""], "n": [1, 2, 3],
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def short(open_doors):
    return open_doors(SHORT)


@pytest.fixture(scope="module")
def expected(short, tmp_path_factory):
    """What the member gets of a file when it is tuned."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_text("age,half,brain,wide,job,n,label\n1.5,1.5,1.5,1.5,clerk,1,0\n,NA,nan,null,,2,0\n-2,-2,-2,-2,,3,0\n")
    spec = short.engine.spec
    return run_in_process(spec.job("m"), FACTORIES, read_rows(spec, path, "label").inputs)


def as_json(http):
    columns = dict.fromkeys(("age", "half", "brain", "wide"), NUMBERS) | {"job": ["clerk", None, ""], "n": [1, 2, 3]}
    inputs = [{"name": name, "datatype": INPUTS[name], "shape": [3], "data": data} for name, data in columns.items()]
    reply = httpx.post(f"{http}/v2/models/short/infer", json={"inputs": inputs})
    return np.reshape(reply.json()["outputs"][0]["data"], (3, 16))


def as_instances(http):
    columns = dict.fromkeys(("age", "half", "brain", "wide"), NUMBERS) | {"job": ["clerk", None, ""], "n": [1, 2, 3]}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    reply = httpx.post(f"{http}/v1/models/short:predict", json={"instances": rows})
    return np.array(reply.json()["predictions"])


def as_arrow(http):
    with Client(http, model="short") as client:
        (answer,) = client.infer_arrow(TABLE)
    return np.stack(answer.batch.column("fused").to_pylist())


def as_frame(http):
    columns = dict.fromkeys(("age", "half", "brain", "wide"), NUMBERS) | {"job": ["clerk", None, ""], "n": [1, 2, 3]}
    frame = pd.DataFrame(columns)
    with Client(http, model="short") as client:
        return client.infer(frame).outputs["fused"]


def as_grpc(target):
    message = pb.ModelInferRequest(model_name="short")
    for name, datatype in INPUTS.items():
        column: Any = ["clerk", None, ""] if name == "job" else [1, 2, 3] if name == "n" else NUMBERS
        message.inputs.add(name=name, datatype=datatype, shape=[3])
        array = as_input(column, {"name": name, "datatype": datatype, "shape": [-1]})
        message.raw_input_contents.append(bytes(encode(array)))
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        reply = pb.ModelInferResponse.FromString(call(message.SerializeToString(), timeout=20))
    return np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(3, 16)


@pytest.mark.parametrize("ask", [as_json, as_instances, as_arrow, as_frame, as_grpc])
def test_missing_values_mean_the_same_at_every_door_as_in_a_file(short, expected, ask):
    np.testing.assert_array_equal(ask(short.grpc if ask is as_grpc else short.http), expected)
    assert len(np.unique(expected, axis=0)) == 3


def test_an_integer_that_is_missing_is_refused_by_its_row_at_every_door(short, tmp_path):
    rows = {name: [1, None] if name == "n" else ["a", "b"] if name == "job" else [1.0, 2.0] for name in INPUTS}
    inputs = [{"name": n, "datatype": INPUTS[n], "shape": [2], "data": data} for n, data in rows.items()]
    reply = httpx.post(f"{short.http}/v2/models/short/infer", json={"inputs": inputs})
    assert (reply.status_code, reply.json()["error"]) == (
        400, "input 'n' has null in row 1, and INT64 knows no missing values; give each row a value"
    )  # fmt: skip
    with Client(short.http, model="short") as client, pytest.raises(RequestError, match="'n' is null in row 1"):
        list(client.infer_arrow(TABLE.set_column(5, "n", pa.array([1, None, 3]))))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(RequestError, match="column 'n', row 1: missing, and INT64 knows no missing values"):
        query("short", tmp_path / "rows.json", url=short.http)
