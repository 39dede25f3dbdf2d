"""One request over every wire gives one answer, bit for bit, whatever its datatypes, shapes and number of rows."""

import contextlib
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest

from quorate.deployments import Client
from quorate.deployments.wire import open_inference_pb2 as pb
from quorate.deployments.wire.arrow_tensors import write_column
from quorate.deployments.wire.binary_tensors import encode
from quorate.deployments.wire.datatypes import CODES, datatype_of, numpy_dtype

pytestmark = pytest.mark.long

SHAPES: tuple[list[int], ...] = ([], [3], [2, 2], [1, 2, 3])
FIXED = {datatype: SHAPES[place % len(SHAPES)] for place, datatype in enumerate(CODES)}
# What gRPC's messages have no field for.
NO_FIELD = {"FP16", "BF16"}
FIELDS = {
    "BOOL": "bool", "INT8": "int", "INT16": "int", "INT32": "int", "INT64": "int64", "UINT8": "uint", "UINT16": "uint",
    "UINT32": "uint", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def checksums(open_doors):
    """A member for each datatype, which reads one input of a fixed and one of a free shape; and their mean."""
    inputs, members = {}, {}
    for datatype, shape in FIXED.items():
        inputs[datatype] = {"datatype": datatype, "shape": shape}
        inputs[f"{datatype}_free"] = {"datatype": datatype, "shape": [-1, 2]}
        members[f"of_{datatype}"] = {
            "model": "wires:checksums", "inputs": [datatype, f"{datatype}_free"], "output": "values",
        }  # fmt: skip
    fusion = {"rule": "mean", "deadline_s": 20.0}
    return open_doors({"name": "checksums", "inputs": inputs, "members": members, "fusion": fusion})


@pytest.fixture(scope="module")
def echoes(open_doors):
    """Members that give back what they read, in its own datatype."""
    inputs = {d: {"datatype": d, "shape": FIXED[d] or [1]} for d in CODES if d not in ("BF16", "BYTES")}
    members = {f"same_{d}": {"model": "wires:same", "inputs": [d], "output": "values"} for d in inputs}
    return open_doors({"name": "echoes", "inputs": inputs, "members": members, "fusion": {"rule": "mean"}})


def random_array(rng, datatype, shape):
    """Any value that the type has and JSON can say: all bits of integers, all finite numbers, any text."""
    if datatype == "BYTES":
        texts = ["".join(map(chr, rng.choice([65, 0x7F, 0xFC, 0x20AC, 0x1F600], rng.integers(6)))) for _ in range(99)]
        array = np.empty(int(np.prod(shape)), dtype=object)
        array[:] = [texts[place].encode() for place in rng.integers(99, size=array.size)]
        return array.reshape(shape)
    dtype = numpy_dtype(datatype)
    if datatype == "BOOL":
        return rng.random(shape) < 0.5
    data = rng.bytes(int(np.prod(shape)) * dtype.itemsize)
    array = np.frombuffer(data, dtype).reshape(shape)
    if dtype.kind in "iu":
        return array
    with np.errstate(invalid="ignore"):  # a signalling NaN among the bits
        return np.where(np.isfinite(array), array, dtype.type(-0.0))


def random_request(rng, doors):
    """A model, its inputs and parameters."""
    with Client(doors.http) as client:
        models = doors.engine.spec.members
        whole = doors.engine.spec.name == "checksums" and rng.random() < 0.3
        model = doors.engine.spec.name if whole else str(rng.choice(list(models)))
        tensors = client.metadata(model)["inputs"]
    rows, free = int(rng.choice([1, 2, 7, 65])), int(rng.integers(1, 5))
    arrays = {}
    for tensor in tensors:
        shape = [rows, *(free if size == -1 else size for size in tensor["shape"][1:])]
        arrays[tensor["name"]] = random_array(rng, tensor["datatype"], shape)
    parameters: dict[str, Any] = {"priority": int(rng.integers(4))}
    if whole:
        parameters["explain"] = bool(rng.random() < 0.3)
        if rng.random() < 0.5:
            parameters["members"] = ",".join(rng.choice(list(models), 3))
    return model, arrays, parameters


def over_json(http, model, arrays, parameters, nested):
    inputs = []
    for name, array in arrays.items():
        text = datatype_of(array) == "BYTES"
        items = array if text else array.astype(np.float64) if array.dtype.kind == "V" else array
        data = items if nested else items.ravel()
        data = np.vectorize(bytes.decode, otypes=[object])(data) if text and data.size else data
        inputs.append({"name": name, "datatype": datatype_of(array), "shape": array.shape, "data": data.tolist()})
    reply = http.post(f"/v2/models/{model}/infer", content=orjson.dumps({"inputs": inputs, "parameters": parameters}))
    assert reply.status_code == 200, reply.text
    return {
        tensor["name"]: np.array(tensor["data"], numpy_dtype(tensor["datatype"])).reshape(tensor["shape"])
        for tensor in reply.json()["outputs"]
    }


def over_grpc(infer, model, arrays, parameters, raw):
    request = pb.ModelInferRequest(model_name=model)
    for name, array in arrays.items():
        datatype = datatype_of(array)
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            request.raw_input_contents.append(bytes(encode(array)))
        else:
            getattr(tensor.contents, f"{FIELDS[datatype]}_contents").extend(array.ravel().tolist())
    for key, value in parameters.items():
        field = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[key], field, value)
    reply = infer(request, timeout=30)
    return {
        tensor.name: np.frombuffer(content, numpy_dtype(tensor.datatype)).reshape(tensor.shape)
        for tensor, content in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }


def over_arrow(client, model, arrays, parameters):
    batch = pa.record_batch({name: write_column(array) for name, array in arrays.items()})
    parts = [answer.batch for answer in client.infer_arrow(batch, model, **parameters)]
    return {name: np.concatenate([numbers(part.column(name)) for part in parts]) for name in parts[0].schema.names}


def numbers(column):
    """pyarrow's own way from a column to numbers, not ours."""
    if isinstance(column, pa.FixedShapeTensorArray):
        return column.to_numpy_ndarray()
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


def check(doors, rng, times):
    path = "/inference.GRPCInferenceService/ModelInfer"
    messages = pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    with contextlib.ExitStack() as stack:
        infer = stack.enter_context(grpc.insecure_channel(doors.grpc)).unary_unary(path, *messages)
        http = stack.enter_context(httpx.Client(base_url=doors.http))
        own = stack.enter_context(Client(doors.http))
        for _ in range(times):
            model, arrays, parameters = random_request(rng, doors)
            expected = over_json(http, model, arrays, parameters, nested=rng.random() < 0.5)
            others = {
                "HTTP binary": own.infer(model, arrays, **parameters).outputs,
                "gRPC raw": over_grpc(infer, model, arrays, parameters, raw=True),
                "Arrow": over_arrow(own, model, arrays, parameters),
            }
            if not NO_FIELD & {datatype_of(array) for array in arrays.values()}:
                others["gRPC typed"] = over_grpc(infer, model, arrays, parameters, raw=False)
            for wire, found in others.items():
                assert found.keys() == expected.keys(), wire
                for name, values in expected.items():
                    told = f"{wire} {name} {model} {parameters}"
                    assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape), told
                    assert found[name].tobytes() == values.tobytes(), told
            yield model, arrays, expected


# 75 requests each, there and back: 1,050 in all
SEEDS = [pytest.param(seed, marks=[pytest.mark.slow] if seed > 1 else []) for seed in range(7)]


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_goes_in_arrives_to_the_bit_over_every_wire(checksums, seed):
    seen = set()
    for _, arrays, _ in check(checksums, np.random.default_rng(seed), times=75):
        seen |= {datatype_of(array) for array in arrays.values()}
    assert seen == set(CODES)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_comes_out_arrives_to_the_bit_over_every_wire(echoes, seed):
    for _, arrays, outputs in check(echoes, np.random.default_rng(seed), times=75):
        ((name, sent),) = arrays.items()
        assert outputs["values"].tobytes() == sent.tobytes(), name
