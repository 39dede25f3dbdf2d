"""Members that MLServer, KServe and Triton serve, each in an environment of its own, by HTTP and gRPC.

`make test-servers` runs the first two, `make test-triton` the last: the ``tritonserver`` that nvidia-pytriton carries.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

import quorate

ROOT = Path(__file__).parents[4]
ROWS = np.random.default_rng(0).normal(5, 1, size=(6, 4))

# What their own documentation has one write: a model of scikit-learn, trained there, and a class with `predict`.
TRAIN = """
import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
model = LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))
joblib.dump(model, "iris/model.joblib")
"""
MLSERVER = {
    "iris/model-settings.json": {
        "name": "iris", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"},
    },
    "settings.json": {"host": "127.0.0.1", "parallel_workers": 0, "metrics_endpoint": None},
}  # fmt: skip
KSERVE = """
import sys
from kserve import InferOutput, InferResponse, Model, ModelServer

class Margins(Model):
    def __init__(self):
        super().__init__("margins")
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        rows = payload.inputs[0].as_numpy()
        outputs = []
        for name, values in (("margins", rows - rows.mean(axis=1, keepdims=True)), ("sum", rows.sum(axis=1))):
            outputs.append(InferOutput(name, list(values.shape), "FP64"))
            outputs[-1].set_data_from_numpy(values, binary_data=False)
        return InferResponse(payload.id or "1", self.name, outputs)

ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1).start([Margins()])
"""

TRITON = """
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(pb.get_input_tensor_by_name(request, "rows").as_numpy()) for request in requests]

    def _answer(self, rows):
        margins = pb.Tensor("margins", rows - rows.mean(axis=1, keepdims=True))
        return pb.InferenceResponse([margins, pb.Tensor("sum", rows.sum(axis=1, keepdims=True))])
"""
TRITON_CONFIG = """
name: "margins"
backend: "python"
max_batch_size: 4
input [ { name: "rows" data_type: TYPE_FP64 dims: [ 4 ] } ]
output [ { name: "margins" data_type: TYPE_FP64 dims: [ 4 ] }, { name: "sum" data_type: TYPE_FP64 dims: [ 1 ] } ]
dynamic_batching { }
"""
# Of the environment of Triton: its Python's version, its packages and its library.
FIND = """
import json, sys, sysconfig
print(json.dumps(["%d.%d" % sys.version_info[:2], sysconfig.get_path("purelib"), sysconfig.get_config_var("LIBDIR")]))
"""

pytestmark = pytest.mark.slow


def python_of(name, target="test-servers"):
    found = ROOT / f".venv-{name}/bin/python"
    if not found.exists():
        pytest.skip(f"{name} is not installed: it has an environment of its own, make {target}")
    return found


def free_ports(count):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


class Server:
    """A process of another server; ``http`` and ``grpc`` are its ports."""

    def __init__(self, folder, *command, **environment):
        self._folder, self._command = folder, command
        self.http, self.grpc, metrics = free_ports(3)
        self._environment = {"MLSERVER_HTTP_PORT": str(self.http), "MLSERVER_GRPC_PORT": str(self.grpc),
                             "MLSERVER_METRICS_PORT": str(metrics), **environment}  # fmt: skip
        self._process = None

    def start(self, model):
        words = [str(word).format(http=self.http, grpc=self.grpc) for word in self._command]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                words, cwd=self._folder, env={**os.environ, **self._environment}, stdout=log, stderr=subprocess.STDOUT
            )
        until = time.monotonic() + 120
        while not self._ready(model):
            late = self._process.poll() is not None or time.monotonic() > until
            assert not late, (self._folder / "log").read_text()
            time.sleep(0.2)

    def _ready(self, model):
        try:
            return httpx.get(f"http://127.0.0.1:{self.http}/v2/models/{model}/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def mlserver(tmp_path):
    python = python_of("mlserver")
    (tmp_path / "iris").mkdir()
    for name, content in MLSERVER.items():
        (tmp_path / name).write_text(json.dumps(content))
    subprocess.run([python, "-c", TRAIN], cwd=tmp_path, check=True)
    server = Server(tmp_path, python.with_name("mlserver"), "start", ".")
    yield server
    server.stop()


@pytest.fixture
def kserve(tmp_path):
    python = python_of("kserve")
    (tmp_path / "serve.py").write_text(KSERVE)
    server = Server(tmp_path, python, "serve.py", "{http}", "{grpc}")
    yield server
    server.stop()


@pytest.fixture
def triton(tmp_path):
    python = python_of("tritonserver", "test-triton")
    version, packages, libraries = json.loads(subprocess.check_output([python, "-c", FIND]))
    home, backend, model = (
        Path(packages) / "pytriton/tritonserver",
        tmp_path / "backends/python",
        tmp_path / "models/margins",
    )
    shutil.copytree(home / "backends/python", backend)
    shutil.copy(home / f"python_backend_stubs/{version}/triton_python_backend_stub", backend)
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(TRITON_CONFIG)
    # The stub starts its interpreter without the environment's packages.
    (model / "1/model.py").write_text(f"import sys\nsys.path.insert(0, {packages!r})\n{TRITON}")
    server = Server(
        tmp_path, home / "bin/tritonserver", f"--model-repository={model.parent}",
        f"--backend-directory={backend.parent}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1",
        "--http-port={http}", "--grpc-port={grpc}", "--allow-metrics=false",
        LD_LIBRARY_PATH=os.pathsep.join([libraries, str(Path(packages) / "nvidia_pytriton.libs")]),
    )  # fmt: skip
    yield server
    server.stop()


def spec(server, model, classes=None, **member):
    """Two members, one a protocol, of the same model."""
    both = {"http": f"http:127.0.0.1:{server.http}/{model}", "grpc": f"grpc:127.0.0.1:{server.grpc}/{model}"}
    members = {name: {"model": address, "inputs": ["x"], **member} for name, address in both.items()}
    return {"name": "elsewhere", "inputs": {"x": {"datatype": "FP64", "shape": [4]}}, "members": members,
            "fusion": {"rule": "mean", "quorum": 2}, **({"classes": classes} if classes else {})}  # fmt: skip


def test_a_model_of_mlserver_answers_as_scikit_learn_does(mlserver):
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    mlserver.start("iris")
    asked = spec(mlserver, "iris", ["0", "1", "2"], output="probabilities", output_name="predict_proba")
    found = quorate.try_spec(asked, {"x": ROWS})
    expected = LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)).predict_proba(ROWS)
    np.testing.assert_allclose(found.outputs["fused"], expected, atol=1e-6)


def test_a_model_of_kserves_server_answers_by_the_output_that_is_meant(kserve):
    kserve.start("margins")
    found = quorate.try_spec(spec(kserve, "margins", output="values", output_name="margins"), {"x": ROWS})
    np.testing.assert_allclose(found.outputs["fused"], ROWS - ROWS.mean(axis=1, keepdims=True), atol=1e-6)


def test_a_model_of_triton_answers_over_http_whatever_its_batches(triton, open_doors):
    triton.start("margins")
    asked = spec(triton, "margins", output="values", output_name="margins")
    for rows in (ROWS, ROWS[:1], np.tile(ROWS, (5, 1))):  # Triton takes four at a time
        found = quorate.try_spec(asked, {"x": rows})
        np.testing.assert_allclose(found.outputs["fused"], rows - rows.mean(axis=1, keepdims=True), atol=1e-6)
        assert found.parameters["members_used"] == "grpc,http"
    doors = open_doors({**asked, "name": "before-triton"})
    tensor = {"name": "x", "datatype": "FP64", "shape": list(ROWS.shape), "data": ROWS.tolist()}
    answer = httpx.post(f"{doors.http}/v2/models/before-triton/infer", json={"inputs": [tensor]}).json()
    (output,) = answer["outputs"]
    np.testing.assert_allclose(np.reshape(output["data"], (6, 4)), ROWS - ROWS.mean(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_comes_up_after_the_member_is_asked_from_then_on(kserve, protocol):
    from quorate.deployments import load_model, parse_spec
    from quorate.deployments.members.predictor import Predictor

    job = parse_spec(spec(kserve, "margins", output="values", output_name="margins")).job(protocol)
    predictor = Predictor(load_model(protocol, job.member, Path()), job)
    predictor.warm_up()
    for _ in range(2):  # down, up, and killed and up again
        assert predictor.run({"x": ROWS}, probabilities=True)[1].all()
        kserve.start("margins")
        until = time.monotonic() + 60
        while (states := predictor.run({"x": ROWS}, probabilities=True)[1]).any() and time.monotonic() < until:
            time.sleep(0.1)  # gRPC waits between its connections
        assert not states.any(), predictor.last_error
        kserve.stop()
