"""The HTTP door over real sockets, asked with httpx and with bytes written by hand; answers are NumPy's."""

import gzip
import json
import zlib

import httpx
import ml_dtypes
import numpy as np
import pytest

from quorate.deployments import Client
from quorate.deployments.errors import RemoteError, RequestError
from tests.deployments.support.known_answers import known_answers

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(5, 2)).astype(np.float32)
NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
STRINGS = np.array([[b"", "\u00e9".encode(), b"c"], [b"a", b"bc", b"d" * 300]], dtype=object)


def known(shift, rows=ROWS):
    return known_answers(rows, shift)


FUSED = 0.25 * known(1) + 0.75 * known(-2)


def tensor(rows=ROWS, **changes):
    plain = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist(), **changes}
    return {key: value for key, value in plain.items() if value is not None}


def binary_body(rows=ROWS, *, size=None, **rest):
    """A body with the tensor behind the JSON, and the headers that say so."""
    item = tensor(rows, data=None, parameters={"binary_data_size": rows.nbytes if size is None else size})
    head = json.dumps({"inputs": [item], **rest}).encode()
    return head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def read_binary(reply):
    """The outputs of a reply by name, as NumPy reads their bytes."""
    at = int(reply.headers["Inference-Header-Content-Length"])
    found = {}
    for item in json.loads(reply.content[:at])["outputs"]:
        size = item["parameters"]["binary_data_size"]
        found[item["name"]] = np.frombuffer(reply.content[at : at + size], np.float32).reshape(item["shape"])
        at += size
    assert at == len(reply.content)
    return found


@pytest.fixture(scope="module")
def http(pair):
    with httpx.Client(base_url=pair.http, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def infer(http):
    def post(body=None, model="pair", headers=None, **fields):
        if body is None:
            body = json.dumps({"inputs": [tensor()], **fields}).encode()
        return http.post(f"/v2/models/{model}/infer", content=body, headers=headers)

    return post


def test_json_in_and_out(infer):
    reply = infer(id="seven").json()
    assert (reply["model_name"], reply["model_version"], reply["id"]) == ("pair", "1", "seven")
    (output,) = reply["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("fused", "FP32", [5, 3])
    np.testing.assert_allclose(np.reshape(output["data"], (5, 3)), FUSED, atol=1e-6)
    assert "id" not in infer().json()


def test_binary_in_and_json_out(infer):
    body, headers = binary_body()
    reply = infer(body, headers=headers)
    assert reply.headers["content-type"] == "application/json"
    np.testing.assert_allclose(np.reshape(reply.json()["outputs"][0]["data"], (5, 3)), FUSED, atol=1e-6)


def test_json_in_and_binary_out(infer):
    for asked in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "fused", "parameters": {"binary_data": True}}]},
    ):
        np.testing.assert_allclose(read_binary(infer(**asked))["fused"], FUSED, atol=1e-6)


def test_an_output_may_go_another_way_than_the_others(infer):
    asked = [{"name": "fused", "parameters": {"binary_data": False}}]
    reply = infer(parameters={"binary_data_output": True, "explain": True}, outputs=asked)
    outputs = json.loads(reply.content[: int(reply.headers["Inference-Header-Content-Length"])])["outputs"]
    assert ["data" in output for output in outputs] == [True, False, False, False, False]


def test_explain_gives_each_members_output_and_share(infer):
    found = read_binary(infer(parameters={"binary_data_output": True, "explain": True}))
    np.testing.assert_allclose(found["a.output"], known(1), atol=1e-6)
    np.testing.assert_allclose(found["b.output"], known(-2), atol=1e-6)
    np.testing.assert_allclose(found["b.contribution"], np.full(5, 0.75), atol=1e-6)


def test_members_and_a_deadline_are_chosen_by_parameters(infer):
    found = read_binary(infer(parameters={"binary_data_output": True, "members": "b", "deadline_ms": 4000}))
    np.testing.assert_allclose(found["fused"], known(-2), atol=1e-6)
    assert infer(parameters={"deadline_ms": 0.001}).status_code == 504


def test_classification_gives_the_best_classes_with_value_index_and_label(infer):
    reply = infer(outputs=[{"name": "fused", "parameters": {"classification": 2}}]).json()["outputs"][0]
    assert (reply["datatype"], reply["shape"]) == ("BYTES", [5, 2])
    rows = [item.split(":") for item in reply["data"]]
    best = np.argsort(-FUSED, axis=1)[:, :2].ravel()
    assert [int(index) for _, index, _ in rows] == best.tolist()
    assert [label for *_, label in rows] == [["red", "green", "blue"][i] for i in best]
    np.testing.assert_allclose([float(v) for v, *_ in rows], -np.sort(-FUSED, axis=1)[:, :2].ravel(), atol=2e-6)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_body_of_bytes_alone_is_the_one_input(infer, rows):
    data = RNG.normal(size=(rows, 2)).astype(np.float32)
    reply = infer(data.tobytes(), headers={"Inference-Header-Content-Length": "0"})
    if rows == 0:
        assert reply.status_code == 400
    else:
        expected = 0.25 * known(1, data) + 0.75 * known(-2, data)
        np.testing.assert_allclose(read_binary(reply)["fused"], expected, atol=1e-6)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("rows", [3, 40_000])
def test_both_ways_may_be_compressed_over_json_and_binary_together(infer, http, coding, pack, rows):
    data = RNG.normal(size=(rows, 2)).astype(np.float32)
    body, headers = binary_body(data, parameters={"binary_data_output": True, "note": "x" * 2000, "explain": True})
    headers |= {"Content-Encoding": coding, "Accept-Encoding": coding}
    reply = infer(pack(body), headers=headers)
    assert reply.headers.get("content-encoding") == (coding if rows > 100 else None)
    expected = 0.25 * known(1, data) + 0.75 * known(-2, data)
    np.testing.assert_allclose(read_binary(reply)["fused"], expected, atol=1e-6)


def test_a_client_that_refuses_a_coding_does_not_get_it(infer):
    rows = np.zeros((100, 2), np.float32)
    body = json.dumps({"inputs": [tensor(rows)]})
    codings = {
        "gzip": "gzip",
        "identity": None,
        "gzip;q=0, deflate": "deflate",
        "gzip;q=0.1, deflate;q=0.9": "deflate",
        "gzip; q=0": None,
    }
    for accepted, coding in codings.items():
        assert infer(body, headers={"Accept-Encoding": accepted}).headers.get("content-encoding") == coding


def values(datatype):
    if datatype == "BYTES":
        return STRINGS
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    dtype = np.dtype(NUMPY[datatype])
    numbers = [[1, 2, 3], [100, 0, 7]] if dtype.kind == "u" else [[1, -2, 3], [-100, 0, 7]]
    return np.array(numbers).astype(dtype)


def number(array):
    """What ``factories/every.py`` gives."""
    if array.dtype == object:
        return [zlib.crc32(b"\0".join(row)) % 2**16 for row in array]
    return (array.astype(np.float64) * [1, 2, 3]).sum(axis=1)


EVERY = {d: values(d) for d in [*NUMPY, "BYTES"]}
EXPECTED = np.stack([number(array) for array in EVERY.values()], axis=1)


def test_json_and_the_python_client_carry_every_datatype(every):
    items = []
    for datatype, array in EVERY.items():
        plain = array.astype(np.float64) if datatype in ("FP16", "BF16") else array
        data = [item.decode() for item in array.ravel()] if datatype == "BYTES" else plain.tolist()
        items.append({"name": datatype, "datatype": datatype, "shape": [2, 3], "data": data})
    reply = httpx.post(f"{every.http}/v2/models/every/infer", json={"inputs": items}, timeout=20)
    np.testing.assert_array_equal(np.reshape(reply.json()["outputs"][0]["data"], (2, 14)), EXPECTED)
    with Client(every.http) as client:
        np.testing.assert_array_equal(client.infer("every", EVERY).outputs["fused"], EXPECTED)
        words = {**EVERY, "BYTES": np.array([["", "\u00e9", "c"], ["a", "bc", "d" * 300]])}
        np.testing.assert_array_equal(client.infer("every", words).outputs["fused"], EXPECTED)
        with pytest.raises(RequestError, match="complex128"):
            client.infer("every", {"FP32": np.zeros((1, 3), complex)})
        with pytest.raises(RemoteError, match="'BOOL' is missing"):
            client.infer("every", {"FP32": np.zeros((1, 3), np.float32)})


def test_the_largest_unsigned_numbers_arrive_next_to_small_ones(every):
    items = [
        {"name": d, "datatype": d, "shape": [1, 3], "data": [2**64 - 1, 0, 1] if d == "UINT64" else a[1].tolist()}
        for d, a in EVERY.items()
        if d not in ("BYTES", "FP16", "BF16")
    ]
    items += [
        {"name": "BYTES", "datatype": "BYTES", "shape": [1, 3], "data": ["", "", ""]},
        *({"name": d, "datatype": d, "shape": [1, 3], "data": [0, 0.5, 0]} for d in ("FP16", "BF16")),
    ]
    reply = httpx.post(f"{every.http}/v2/models/every/infer", json={"inputs": items}, timeout=20).json()
    column = list(EVERY).index("UINT64")
    assert reply["outputs"][0]["data"][column] == np.float32(2**64)


def every_binary(datatype, data):
    """Every input as bytes, one of them replaced."""
    blobs = {}
    for name, array in EVERY.items():
        elements = [len(item).to_bytes(4, "little") + item for item in array.ravel()] if name == "BYTES" else []
        blobs[name] = b"".join(elements) if name == "BYTES" else array.tobytes()
    blobs[datatype] = data
    items = [
        {"name": n, "datatype": n, "shape": [2, 3], "parameters": {"binary_data_size": len(b)}}
        for n, b in blobs.items()
    ]
    head = json.dumps({"inputs": items}).encode()
    return head + b"".join(blobs.values()), {"Inference-Header-Content-Length": str(len(head))}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xff\xff\xff\xff" + b"a" * 20, "past the end"),
        (b"\x01\x00\x00", "past the end"),
        (b"\x00\x00\x00\x00" * 5, "needs 6 elements but has 5"),
        (b"\x00\x00\x00\x00" * 7, "needs 6 elements but has 7"),
    ],
)
def test_wrong_length_prefixes_of_strings_are_refused(every, data, sentence):
    body, headers = every_binary("BYTES", data)
    reply = httpx.post(f"{every.http}/v2/models/every/infer", content=body, headers=headers, timeout=20)
    assert reply.status_code == 400
    assert sentence in reply.json()["error"]


def test_any_byte_but_zero_is_true(every):
    body, headers = every_binary("BOOL", bytes([7, 0, 255, 0, 0, 1]))
    reply = httpx.post(f"{every.http}/v2/models/every/infer", content=body, headers=headers, timeout=20).json()
    np.testing.assert_array_equal(np.reshape(reply["outputs"][0]["data"], (2, 14)), EXPECTED)


def test_unknown_things_are_404_and_wrong_methods_405(http, infer):
    assert infer(model="nobody").status_code == 404
    assert infer(model="pair/versions/9").status_code == 404
    assert infer(model="pair/versions/1").status_code == 200
    assert http.get("/v2/models/nobody").status_code == 404
    assert http.get("/v2/nothing").status_code == 404
    assert http.get("/v2/models/pair/infer").status_code == 405
    assert http.post("/v2/models/pair").status_code == 405
    assert http.get("/v2/models/..%2f..%2fetc%2fpasswd").status_code == 404
    ready = http.get("/v2/models/nobody/ready")
    assert (ready.status_code, ready.content) == (400, b"")


def test_health_and_metadata(http):
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/pair/ready", "/v2/models/b/versions/1/ready"):
        reply = http.get(path)
        assert (reply.status_code, reply.content) == (200, b"")
    assert http.get("/v2").json()["name"] == "quorate"
    assert http.get("/v2/models/pair").json() == {
        "name": "pair",
        "versions": ["1"],
        "platform": "quorate_ensemble",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [
            {"name": "fused", "datatype": "FP32", "shape": [-1, 3], "parameters": {"classes": '["red","green","blue"]'}}
        ],
    }


def test_config_statistics_and_index(http, infer):
    config = http.get("/v2/models/pair/config").json()
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}]
    before = http.get("/v2/models/pair/stats").json()["model_stats"][0]
    infer()
    after = http.get("/v2/models/pair/versions/1/stats").json()["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 5
    assert after["execution_count"] - before["execution_count"] == 1
    assert len(http.get("/v2/models/stats").json()["model_stats"]) == 3
    for body in (b"", b"{}", b'{"ready": true}'):
        index = http.post("/v2/repository/index", content=body).json()
        assert [(model["name"], model["state"]) for model in index] == [(n, "READY") for n in ("pair", "a", "b")]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v2/models/nobody/config", b"", 404),
        ("GET", "/v2/models/nobody/stats", b"", 404),
        ("GET", "/v2/models/pair/versions/2/stats", b"", 404),
        ("GET", "/v2/repository/index", b"", 405),
        ("POST", "/v2/repository/index", b"[]", 400),
        ("POST", "/v2/repository/index", b'{"ready": 1}', 400),
        ("POST", "/v2/repository/models/pair/load", b'{"parameters": {"config": "{}"}}', 503),
        ("POST", "/v2/repository/models/pair/unload", b"", 503),
        ("GET", "/v2/models/nobody/trace/setting", b"", 404),
        ("POST", "/v2/trace/setting", b'{"trace_file": "/f"}', 501),
        ("POST", "/v2/logging", b'{"log_file": "/f"}', 501),
        ("POST", "/v2/logging", b"[]", 400),
        ("GET", "/v2/systemsharedmemory/region/r/status", b"", 404),
        ("POST", "/v2/systemsharedmemory/region/r/register", b"{}", 501),
        ("POST", "/v2/cudasharedmemory/region/r/register", b"{}", 400),
        ("GET", "/v2/cudasharedmemory/region/r/register", b"", 405),
        ("GET", "/v2/repository/models/../pair/load", b"", 404),
    ],
)
def test_management_that_is_off_or_wrong_says_so(http, method, path, body, status):
    reply = http.request(method, path, content=body)
    assert reply.status_code == status
    assert reply.json()["error"]
