"""Pickles that would tell if they were ever loaded, and names that would tell if they ever became paths or modules."""

import base64
import http.client
import json
import pickle
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import numpy as np
import pytest

from quorate.deployments.wire import open_inference_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
ROWS = np.array([[0.5, -1.0]], np.float32)


class Canary:
    """Loading its pickle makes a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "loaded"
    pickled = pickle.dumps(Canary(path))
    pickle.loads(pickled)
    assert path.exists()  # it does tell
    path.unlink()
    yield pickled
    assert not path.exists(), "a pickle from a request was loaded"


def http_bodies(pickled):
    """Bodies and headers that carry a pickle in every place that takes bytes or text."""
    text = base64.b64encode(pickled).decode()
    latin = pickled.decode("latin-1")
    for word in (text, latin):
        item: dict[str, Any] = {"name": "x", "datatype": "BYTES", "shape": [1], "data": [word]}
        yield json.dumps({"inputs": [item]}).encode(), {}
        for field in ("name", "datatype", "data", "shape"):
            yield json.dumps({"inputs": [{**item, field: word}]}).encode(), {}
        yield json.dumps({"id": word, "parameters": {word[:50]: word}, "inputs": [item]}).encode(), {}
        yield (
            json.dumps(
                {"inputs": [item], "outputs": [{"name": word, "parameters": {"classification": word}}]}
            ).encode(),
            {},
        )
    yield pickled, {}
    for coding, pack in (("gzip", 31), ("deflate", 15)):
        packer = zlib.compressobj(wbits=pack)
        yield packer.compress(pickled) + packer.flush(), {"Content-Encoding": coding}
    item = {"name": "BYTES", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(pickled) + 4}}
    head = json.dumps({"inputs": [item]}).encode()
    raw = len(pickled).to_bytes(4, "little") + pickled
    yield head + raw, {"Inference-Header-Content-Length": str(len(head))}
    yield pickled, {"Inference-Header-Content-Length": "0"}
    for content_type in ("application/python-pickle", "application/x-pickle", "application/vnd.apache.arrow.stream"):
        yield pickled, {"Content-Type": content_type}


def test_no_http_field_is_ever_unpickled(canary, pair, every):
    paths = [
        f"{pair.http}/v2/models/pair/infer",
        f"{pair.http}/v2/models/a/infer",
        f"{every.http}/v2/models/every/infer",
    ]
    paths += [f"{pair.http}/v2/repository/models/pair/load", f"{pair.http}/v2/repository/index"]
    asked = 0
    with httpx.Client(timeout=20) as client:
        for path in paths:
            for body, headers in http_bodies(canary):
                assert client.post(path, content=body, headers=headers).status_code in (200, 400, 503)
                asked += 1
        text = base64.b64encode(canary).decode()
        load = {"parameters": {"config": text, "file:1/model.pkl": text}}
        assert client.post(paths[3], json=load).status_code == 400
    assert asked > 80


SIZES = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip


def test_a_pickle_among_strings_arrives_as_the_bytes_that_it_is(canary, every):
    """The member gets it, as bytes; ``factories/every.py`` gives their checksum."""
    inputs: list[dict[str, Any]] = []
    blobs = []
    for datatype, size in SIZES.items():
        blobs.append(bytes(3 * size))
        inputs.append({"name": datatype, "datatype": datatype, "shape": [1, 3]})
    blobs.append(b"".join(len(item).to_bytes(4, "little") + item for item in (canary, b"", b"")))
    inputs.append({"name": "BYTES", "datatype": "BYTES", "shape": [1, 3]})
    for item, blob in zip(inputs, blobs, strict=True):
        item["parameters"] = {"binary_data_size": len(blob)}
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = httpx.post(
        f"{every.http}/v2/models/every/infer", content=head + b"".join(blobs), headers=headers, timeout=20
    )
    assert reply.json()["outputs"][0]["data"][-1] == zlib.crc32(b"\0".join((canary, b"", b""))) % 2**16


def fill(message, pickled, depth=0):
    """Every field of a message that takes bytes or text, filled with the pickle."""
    text = base64.b64encode(pickled).decode()
    for field in message.DESCRIPTOR.fields:
        value = {field.TYPE_BYTES: pickled, field.TYPE_STRING: text}.get(field.type)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if value is not None and field.containing_oneof is None:
            getattr(message, field.name).append(value) if field.is_repeated else setattr(message, field.name, value)
        elif is_map and field.message_type.fields_by_name["value"].message_type is not None:
            fill(getattr(message, field.name)[text], pickled, depth + 1)
        elif field.message_type is not None and not is_map and depth < 3:
            inner = getattr(message, field.name)
            fill(inner.add() if field.is_repeated else inner, pickled, depth + 1)
        elif value is not None:
            setattr(message, field.name, value)
    return message


def test_no_grpc_field_is_ever_unpickled(canary, pair):
    codes = set()
    with grpc.insecure_channel(pair.grpc) as channel:
        for method in SERVICE.methods:
            request = fill(getattr(pb, method.input_type.name)(), canary)
            for message in (request, raw_pickle(canary)) if method.name.endswith("Infer") else (request,):
                stub = channel.unary_unary(
                    f"/inference.GRPCInferenceService/{method.name}", response_deserializer=bytes
                )
                codes.add(stub.future(message.SerializeToString(), timeout=20).code())
    refusals = grpc.StatusCode
    assert codes <= {
        refusals.OK, refusals.INVALID_ARGUMENT, refusals.NOT_FOUND, refusals.UNIMPLEMENTED, refusals.UNAVAILABLE,
    }  # fmt: skip


def raw_pickle(pickled):
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=ROWS.shape)
    return pb.ModelInferRequest(model_name="pair", inputs=[tensor], raw_input_contents=[pickled])


SECRET = "a file that nothing of a request leads to"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Ways of writing a path to a file, and of a module that would tell if it were imported."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text(SECRET)
    (folder / "told.py").write_text(f"open({str(folder / 'imported')!r}, 'w')")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    dots = "../" * 30
    target = str(folder / "secret").lstrip("/")
    yield [
        f"{dots}{target}", f"/{target}", f"..\\..\\{target}", "..", ".", "", "~", "file:///" + target,
        f"{dots}{target}\0.json", "%2e%2e%2f" * 30 + target, "%252e%252e%252f" * 30 + target,
        "..%c0%af" * 30 + target, f"..%2f{target}", "os:system", "told:run",
        f"{folder}/told:run",
        "CON", "\0", "a\nb", "é" * 500, "x" * 5000, "pair/../a", "${HOME}", "{0.__class__}", "%s%n",
    ]  # fmt: skip
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


SHAPES = (
    "/v2/models/{}", "/v2/models/{}/ready", "/v2/models/{}/config", "/v2/models/{}/stats",
    "/v2/models/{}/versions/1/ready", "/v2/models/pair/versions/{}", "/v2/{}", "/{}", "/docs/{}",
    "/v2/systemsharedmemory/region/{}/status",
)  # fmt: skip


def test_no_name_in_an_http_path_leads_anywhere(pair, paths):
    connection = http.client.HTTPConnection(pair.http.removeprefix("http://"), timeout=20)  # sends dots as they are

    def ask(method, path, body=None):
        connection.request(method, path, body)
        reply = connection.getresponse()
        assert SECRET not in reply.read().decode()
        return reply.status

    for name in filter(None, paths):
        for shape in SHAPES:
            for written in {quote(name, safe=""), quote(name, safe="/")}:
                status = ask("GET", shape.format(written))
                assert status in (400, 404), f"{shape} {written} gave {status}"
        quoted = quote(name, safe="")
        for verb in ("load", "unload"):
            assert ask("POST", f"/v2/repository/models/{quoted}/{verb}", b"{}") in (400, 404, 503)
        assert ask("POST", f"/v2/models/{quoted}/infer", b"{}") in (400, 404)
    connection.close()


@pytest.mark.long
def test_no_name_in_a_body_leads_anywhere(pair, paths):
    with httpx.Client(base_url=pair.http, timeout=20) as client:
        for name in paths:
            item = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
            for body in (
                {"inputs": [{**item, "name": name}]},
                {"inputs": [item], "outputs": [{"name": name}]},
                {"inputs": [item], "parameters": {"members": name or ","}},
                {
                    "inputs": [
                        {
                            **item,
                            "data": None,
                            "parameters": {"shared_memory_region": name, "shared_memory_byte_size": 8},
                        }
                    ]
                },
            ):
                reply = client.post("/v2/models/pair/infer", json=body)
                assert reply.status_code == 400, f"{body} gave {reply.text}"
                assert SECRET not in reply.text
            configs: list[dict[str, Any]] = [
                {"fusion": {"state": name}},
                {"fusion": {"rule": name}},
                {"fusions": {name: {}}},
                {"members": {name: {"model": name}}},
                {"fusion": {"members": [name]}},
                {"fusion": {"options": {"path": name}}},
            ]
            for config in configs:
                reply = client.post(
                    "/v2/repository/models/pair/load", json={"parameters": {"config": json.dumps(config)}}
                )
                assert reply.status_code in (400, 503), f"{config} gave {reply.text}"
                assert SECRET not in reply.text
    with grpc.insecure_channel(pair.grpc) as channel:
        for name in paths:
            for rpc, message in (
                ("ModelMetadata", pb.ModelMetadataRequest(name=name, version="1")),
                ("ModelConfig", pb.ModelConfigRequest(name="pair", version=name or "2")),
                ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name, repository_name=name)),
                ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name="r", key=name, byte_size=8)),
            ):
                stub = channel.unary_unary(f"/inference.GRPCInferenceService/{rpc}", response_deserializer=bytes)
                code = stub.future(message.SerializeToString(), timeout=20).code()
                assert code not in (grpc.StatusCode.OK, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
