"""Members that live elsewhere: another Quorate, asked over HTTP and gRPC; what is down is missing, never wrong."""

import asyncio
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import orjson
import pytest

from quorate.deployments import Doors, load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.security.credentials import Credentials
from quorate.deployments.security.tokens import digest
from quorate.deployments.sources.remote import loading
from quorate.deployments.sources.remote.call_deadline import set_deadline
from quorate.deployments.sources.remote.http import HttpServer
from quorate.deployments.sources.remote.server import UnreachableError
from quorate.deployments.spec.model_address import address_of
from quorate.deployments.spec.model_formats import REMOTE, format_of
from quorate.deployments.transport.row_state import RowState
from tests.deployments.support.member_threads import running
from tests.deployments.support.patients import near

ROWS = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
X = {"x": {"datatype": "FP32", "shape": [2]}}
TOKEN = "0123456789abcdef0123456789abcdef"


def known(shift):
    """What ``factories/known.py`` gives, in float64 from its definition."""
    x = ROWS.astype(np.float64)
    scores = np.exp(np.stack([x[:, 0] + shift, x[:, 1] - shift, x[:, 0] * x[:, 1]], axis=1))
    return scores / scores.sum(axis=1, keepdims=True)


def at(model):
    address = address_of(model)
    assert address is not None
    return address


def job_of(model, tensors=X, **member):
    member = {"model": model, "inputs": list(tensors), "output": "probabilities", **member}
    whole = {"name": "one", "inputs": tensors, "classes": ["red", "green", "blue"], "fusion": {"rule": "mean"}}
    return parse_spec({**whole, "members": {"m": member}}).job("m")


def predictor_of(job, folder):
    predictor = Predictor(load_model("m", job.member, folder), job)
    predictor.warm_up()
    return predictor


def addresses(doors):
    place = doors.http.removeprefix("http://")
    return [
        f"{doors.http}/v2/models/pair",
        f"http:{place}/pair",
        f"grpc:{doors.grpc}/pair",
        f"grpc:{doors.grpc}/pair/1",
    ]


@pytest.mark.parametrize("way", range(4))
def test_a_model_of_another_server_answers_as_it_does_there(pair, tmp_path, way):
    predictor = predictor_of(job_of(addresses(pair)[way]), tmp_path)
    values, states = predictor.run({"x": ROWS}, probabilities=True)
    assert not states.any()
    near(values, 0.25 * known(1) + 0.75 * known(-2))


@pytest.mark.parametrize("way", [0, 2])
def test_classes_that_the_server_names_are_aligned_by_name(pair, tmp_path, way):
    job = job_of(addresses(pair)[way])
    values, _ = predictor_of(job, tmp_path).run({"x": ROWS}, probabilities=True)
    other = job.model_copy(update={"classes": ("blue", "black", "red", "green")})
    found, _ = predictor_of(other, tmp_path).run({"x": ROWS}, probabilities=True)
    near(found, np.stack([values[:, 2], 0 * values[:, 0], values[:, 0], values[:, 1]], axis=1))


def test_a_server_without_the_extension_for_bytes_is_sent_json(pair):
    server = HttpServer(at(addresses(pair)[0]), Credentials())
    server.describe(10)
    server._binary = False
    near(server.infer({"x": ROWS}, "fused", 10)["fused"], 0.25 * known(1) + 0.75 * known(-2))
    with pytest.raises(ValueError, match="x is not finite"):
        server.infer({"x": ROWS * np.float32("nan")}, "fused", 10)


@pytest.mark.parametrize("datatype", ["BYTES", "BF16", "INT8", "BOOL", "UINT64", "FP64"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_each_datatype_travels(every, protocol, datatype):
    from quorate.deployments.sources.remote.grpc import GrpcServer
    from quorate.deployments.wire.datatypes import zeros

    place = every.http.removeprefix("http://") if protocol == "http" else every.grpc
    server = (HttpServer if protocol == "http" else GrpcServer)(at(f"{protocol}:{place}/every"), Credentials())
    described = {tensor.name: tensor.datatype for tensor in server.describe(10).inputs}
    assert described[datatype] == datatype
    for output in ("fused", None):
        found = server.infer({name: zeros(name, [3], 2) for name in described}, output, 10)
        assert {name: array.shape[0] for name, array in found.items()} == {"fused": 2}


def test_other_names_are_said_and_those_that_fit_nothing_are_refused(pair, tmp_path):
    address = addresses(pair)[0]
    both = {"x": X["x"], "y": X["x"]}
    predictor_of(job_of(address, both), tmp_path)  # what the model does not read is not sent
    with pytest.raises(MemberLoadError, match=r"the server's model reads x, and the member gives z; say"):
        predictor_of(job_of(address, {"image": X["x"]}, inputs={"z": "image"}), tmp_path)
    predictor_of(job_of(address, {"image": X["x"]}, inputs={"x": "image"}), tmp_path)
    predictor_of(job_of(address, {"image": X["x"]}), tmp_path)  # the only one needs no name


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (
            {"datatype": "FP64", "shape": [2]},
            "'x' is FP32 on the server, and the member is given FP64; give both the same",
        ),
        ({"datatype": "FP32", "shape": [3]}, r"'x' has shape \[-1, 2\] on the server, and the batch \[2, 3\]"),
    ],
)
def test_a_datatype_or_shape_that_is_not_the_servers_is_refused_at_warm_up(pair, tmp_path, tensor, sentence):
    with pytest.raises(MemberLoadError, match=sentence):
        predictor_of(job_of(addresses(pair)[0], {"x": tensor}), tmp_path)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_has_no_such_model_is_refused_at_load(pair, tmp_path, protocol):
    place = pair.http.removeprefix("http://") if protocol == "http" else pair.grpc
    with pytest.raises(MemberLoadError, match=r"does not say what it is: .*'nobody' is not found"):
        predictor_of(job_of(f"{protocol}:{place}/nobody"), tmp_path)


@pytest.mark.parametrize("way", [0, 2])
def test_a_server_that_is_down_when_a_replica_starts_is_that_member_missing_until_it_is_up(
    open_doors, pair_spec, tmp_path, way, monkeypatch
):
    monkeypatch.setattr(loading, "AGAIN_S", 0.0)
    doors = open_doors({**pair_spec, "name": f"late{way}"})
    doors.server.stop()
    job = job_of(addresses(doors)[way].replace("pair", f"late{way}"))
    job = job.model_copy(update={"classes": ("blue", "red", "green")})
    predictor = predictor_of(job, tmp_path)
    assert "cannot be asked" in predictor.last_error or "UNAVAILABLE" in predictor.last_error
    values, states = predictor.run({"x": ROWS}, probabilities=True)
    assert (states == RowState.ERROR).all()
    doors.restart()
    until = time.monotonic() + 60
    while states.any() and time.monotonic() < until:
        values, states = predictor.run({"x": ROWS}, probabilities=True)
    near(values, (0.25 * known(1) + 0.75 * known(-2))[:, [2, 0, 1]])


@pytest.mark.parametrize("way", [0, 2])
def test_a_server_that_goes_down_later_is_that_member_missing_and_back_when_it_is_back(
    open_doors, pair_spec, tmp_path, way
):
    doors = open_doors({**pair_spec, "name": f"gone{way}"})
    predictor = predictor_of(job_of(addresses(doors)[way].replace("pair", f"gone{way}")), tmp_path)
    doors.server.stop()
    values, states = predictor.run({"x": ROWS}, probabilities=True)
    assert (states == RowState.ERROR).all()
    assert not values.any()
    assert "cannot be asked" in predictor.last_error or "UNAVAILABLE" in predictor.last_error
    doors.restart()
    until = time.monotonic() + 60
    while states.any() and time.monotonic() < until:  # gRPC waits between its connections
        values, states = predictor.run({"x": ROWS}, probabilities=True)
    near(values, 0.25 * known(1) + 0.75 * known(-2))


@pytest.fixture
def silent():
    """A port where requests are read and never answered, what came, and whether it is closed at once."""
    came, kept, how = [], [], {"closes": True}
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append(connection.recv(1 << 16))
                if how["closes"]:
                    connection.close()
                else:
                    kept.append(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], came, how
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in kept:
        connection.close()


def test_what_may_have_reached_the_server_is_not_sent_again(silent):
    port, came, _ = silent
    server = HttpServer(at(f"http:127.0.0.1:{port}/m"), Credentials())
    with pytest.raises(UnreachableError, match="cannot be asked"):
        server.infer({"x": ROWS}, "y", 10)
    assert len(came) == 1


def test_an_answer_is_not_waited_for_beyond_the_calls_deadline(silent):
    port, came, how = silent
    how["closes"] = False
    server = HttpServer(at(f"http:127.0.0.1:{port}/m"), Credentials())
    with pytest.raises(UnreachableError, match=r"did not answer within 0\.1 s"):
        server.infer({"x": ROWS}, "y", 0.1)
    with pytest.raises(UnreachableError, match="nobody waits"):
        server.infer({"x": ROWS}, "y", 0)
    assert len(came) == 1


def test_a_batch_that_nobody_waits_for_is_not_sent(pair, tmp_path):
    predictor = predictor_of(job_of(addresses(pair)[0]), tmp_path)
    set_deadline(time.monotonic() - 1)
    try:
        _, states = predictor.run({"x": ROWS}, probabilities=True)
    finally:
        set_deadline(float("inf"))
    assert (states == RowState.ERROR).all()
    assert predictor.last_error.endswith("nobody waits for the answer any more")


@pytest.mark.parametrize("way", [0, 2])
def test_credentials_are_a_file_of_the_node(open_doors, pair_spec, tmp_path, way):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    doors = open_doors({**pair_spec, "name": f"guarded{way}"}, Doors(ask_tokens=(digest(TOKEN),)))
    address = addresses(doors)[way].replace("pair", f"guarded{way}")
    with pytest.raises(MemberLoadError, match=r"does not say what it is: .*(401|UNAUTHENTICATED)"):
        predictor_of(job_of(address), tmp_path)
    predictor_of(job_of(address, config={"token_file": str(file)}), tmp_path)
    with pytest.raises(MemberLoadError, match=r"config.token_file is token; give the absolute path"):
        predictor_of(job_of(address, config={"token_file": "token"}), tmp_path)


@pytest.mark.parametrize(
    ("model", "place", "name", "version"),
    [
        ("http://triton:8000/v2/models/resnet", "triton:8000", "resnet", ""),
        ("https://ks.example/serving/v2/models/a%20b/versions/3", "ks.example/serving", "a b", "3"),
        ("grpc:triton:8001/resnet/2", "triton:8001", "resnet", "2"),
        ("grpcs:10.0.0.1:8001/resnet", "10.0.0.1:8001", "resnet", ""),
    ],
)
def test_an_address_says_that_it_is_one_of_a_model(model, place, name, version):
    found = at(model)
    assert (found.place, found.model, found.version) == (place, name, version)
    assert format_of(model) is REMOTE


@pytest.mark.parametrize(
    "model", ["http://host:8000/model.onnx", "grpc:host/model", "http:host:8000", "s3://a/v2/models/b"]
)
def test_any_other_address_is_no_model(model):
    assert address_of(model) is None
    if not model.endswith(".onnx"):  # which is the address of a file, and never fetched
        with pytest.raises(SpecError, match=r"is no model; write .*grpc:HOST:PORT/NAME"):
            job_of(model)


class _Meeting(BaseHTTPRequestHandler):
    """A server that says nothing of its model, and answers two requests only together."""

    together = threading.Barrier(2)

    def do_GET(self):
        self._answer({})

    def do_POST(self):
        asked = orjson.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"][0]
        self.together.wait(30)
        rows = np.array(asked["data"], np.float32).reshape(asked["shape"])
        output = {"name": "sum", "datatype": "FP32", "shape": [len(rows), 1], "data": rows.sum(axis=1).tolist()}
        self._answer({"model_name": "m", "outputs": [output]})

    def _answer(self, found):
        body = orjson.dumps({"name": "m", "inputs": [], "outputs": [], **found})
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_several_batches_are_under_way_at_a_server_at_once():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Meeting) as server:
        threading.Thread(target=server.serve_forever).start()
        member = {"model": f"http:127.0.0.1:{server.server_port}/m", "inputs": ["x"], "output": "values"}
        spec = {"name": "met", "inputs": {"x": {"datatype": "FP32", "shape": [-1]}}, "members": {"m": member},
                "fusion": {"rule": "mean", "deadline_s": 30.0}}  # fmt: skip

        async def asked():
            async with running(spec) as engine:
                rows = [np.ones((1, size), np.float32) for size in (2, 3)]  # which are no rows of one batch
                answers = await asyncio.gather(*(engine.infer({"x": row}) for row in rows))
                return [float(answer.values[0, 0]) for answer in answers]

        try:
            # Its example makes a batch alone, which would wait for another.
            warm = threading.Thread(target=lambda: httpx.post(
                f"http://127.0.0.1:{server.server_port}/v2/models/m/infer",
                json={"inputs": [{"data": [1], "shape": [1, 1]}]},
            ))  # fmt: skip
            warm.start()
            assert asyncio.run(asked()) == [2.0, 3.0]
            warm.join()
        finally:
            server.shutdown()
