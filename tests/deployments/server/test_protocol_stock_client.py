"""Every call of the stock tritonclient, over each of its four clients, answers as Triton does.

What Triton answers was recorded with the same script (``stock_client.py``, tritonclient 2.73) from Triton 2.51, the
``tritonserver`` of nvidia-pytriton 0.7.0, with one Python-backend model ``pair`` of the same function. Tracing, dynamic
logging and shared memory answer as its sources have it (src/http_server.cc), the last as where it is compiled out.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest

HERE = Path(__file__).parents[1] / "support"
PYTHON = Path(os.environ.get("QUORATE_TRITON_PYTHON", HERE.parents[2] / ".venv-triton" / "bin" / "python"))
CLIENTS = ["http", "http aio", "grpc", "grpc aio"]

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no stock tritonclient; make test-triton installs it")

TRITON_FUSED = [
    0.26166170835494995, 0.5810950994491577, 0.15724320709705353, 0.2879182696342468, 0.5916340947151184,
    0.12044762074947357,
]  # fmt: skip
TRITON_CLASSES = ["0.581095:1:green", "0.261662:0:red", "0.591634:1:green", "0.287918:0:red"]
TRITON_UNKNOWN = "Request for unknown model: 'nobody' is not found"


@pytest.fixture(scope="module")
def answers(pair):
    command = [PYTHON, HERE / "stock_client.py", pair.http.removeprefix("http://"), pair.grpc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=CLIENTS)
def got(request, answers):
    return answers[request.param]


def test_health_tells_known_models_from_unknown_ones(got):
    assert [got[call] for call in ("live", "ready", "model ready", "model version ready")] == [True] * 4
    assert got["unknown model ready"] is False


def test_metadata_names_the_tensors_as_triton_does(got):
    """gRPC's int64 are strings in JSON."""
    for call in ("model metadata", "version metadata"):
        found = got[call]
        shapes = [[int(size) for size in tensor["shape"]] for tensor in (*found["inputs"], *found["outputs"])]
        assert (found["name"], found["versions"]) == ("pair", ["1"])
        assert (found["inputs"][0]["name"], found["inputs"][0]["datatype"]) == ("x", "FP32")
        assert (found["outputs"][0]["name"], found["outputs"][0]["datatype"]) == ("fused", "FP32")
        assert shapes == [[-1, 2], [-1, 3]]


def test_config_statistics_and_index_name_the_models(got):
    config = got["model config"].get("config", got["model config"])
    assert (config["name"], config["input"][0]["data_type"]) == ("pair", "TYPE_FP32")
    assert [int(size) for size in config["input"][0]["dims"]] == [2]
    assert [int(size) for size in config["output"][0]["dims"]] == [3]
    assert got["statistics"]["model_stats"][0]["name"] == "pair"
    assert [model["name"] for model in got["all statistics"]["model_stats"]] == ["pair", "a", "b"]
    index = got["index"]["models"] if isinstance(got["index"], dict) else got["index"]
    assert index == [{"name": name, "version": "1", "state": "READY"} for name in ("pair", "a", "b")]


def test_every_way_to_infer_gets_tritons_numbers(got):
    told = ("classes", "parameters", "unknown", "output", "late")
    ways = [way for way in got if "infer" in way and way.split()[-1] not in told]
    assert len(ways) >= 3
    for way in ways:
        np.testing.assert_allclose(got[way], TRITON_FUSED, atol=1e-6, err_msg=way)


def test_classes_are_written_as_triton_writes_them(got):
    assert got["infer classes"] == TRITON_CLASSES


def test_version_id_priority_timeout_and_parameters_go_in(got):
    """``members=b``: the answer is that member's alone."""
    x = np.array([[0.5, -1.0], [2.0, 0.25]])
    scores = np.exp(np.stack([x[:, 0] - 2, x[:, 1] + 2, x[:, 0] * x[:, 1]], axis=1))
    np.testing.assert_allclose(got["infer parameters"], (scores / scores.sum(axis=1, keepdims=True)).ravel(), atol=1e-6)


def test_a_stream_answers_in_order_and_an_error_ends_only_its_own_request(answers):
    first, error, last = answers["grpc"]["stream"]
    np.testing.assert_allclose([first, last], [TRITON_FUSED] * 2, atol=1e-6)
    assert TRITON_UNKNOWN in error
    np.testing.assert_allclose(answers["grpc aio"]["stream"], [TRITON_FUSED] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "http", "grpc", "text"),
    [
        ("unknown model metadata", 404, "NOT_FOUND", TRITON_UNKNOWN),
        ("unknown version metadata", 404, "NOT_FOUND", "Request for unknown model: 'pair' version 7 is not found"),
        ("unknown model config", 404, "NOT_FOUND", TRITON_UNKNOWN),
        ("infer unknown", 404, "NOT_FOUND", TRITON_UNKNOWN),
        ("infer unknown output", 400, "INVALID_ARGUMENT", "unexpected inference output 'nothing' for model 'pair'"),
        ("infer late", 504, "DEADLINE_EXCEEDED", ""),  # Triton heeds it where the model's configuration says so
        ("load", 503, "UNAVAILABLE", "explicit model load / unload is not allowed"),
        ("load with a file", 400, "INVALID_ARGUMENT", "parameter file:1/model.pt is not for loading"),
        ("unload", 503, "UNAVAILABLE", "explicit model load / unload is not allowed"),
        ("update trace file", 501, "UNIMPLEMENTED", "trace file location can not be updated through network protocol"),
        ("update log file", 501, "UNIMPLEMENTED", "log file location can not be updated through network protocol"),
        ("one system memory", 404, "NOT_FOUND", "Unable to find system shared memory region: 'r'"),
        ("one cuda memory", 404, "NOT_FOUND", "Unable to find cuda shared memory region: 'r'"),
        ("register system memory", 501, "UNIMPLEMENTED", "failed to register shared memory region: 'r'"),
        ("register cuda memory", 400, "INVALID_ARGUMENT", "failed to register CUDA shared memory region: 'r'"),
    ],
)
def test_what_is_not_there_or_off_is_an_error_with_tritons_code(answers, call, http, grpc, text):
    for client in CLIENTS:
        code = f"StatusCode.{grpc} " if client.startswith("grpc") else f"{http} "
        assert answers[client][call]["error"].startswith(f"{code}{text}"), client


def test_trace_and_log_settings_are_read_changed_and_taken_back(got):
    plain = {"trace_level": ["OFF"], "trace_rate": ["1000"], "trace_count": ["-1"], "trace_mode": ["opentelemetry"]}
    for call in ("trace", "update trace", "update model trace", "clear trace"):
        assert _trace(got[call]) == plain, call
    assert _trace(got["set trace"]) == {**plain, "trace_rate": ["50"], "trace_count": ["7"]}
    logs = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True,
            "log_verbose_level": 0, "log_format": "default"}  # fmt: skip
    assert _logs(got["log"]) == _logs(got["update log"]) == _logs(got["update log back"]) == logs
    assert _logs(got["set log"]) == {**logs, "log_verbose_level": 1, "log_format": "ISO8601", "log_info": False}


def _trace(found):
    """gRPC has lists of all, and says so."""
    if "settings" in found:
        return {name: setting["value"] for name, setting in found["settings"].items()}
    return {name: value if isinstance(value, list) else [value] for name, value in found.items()}


def _logs(found):
    if "settings" not in found:
        return found
    return {name: next(iter(setting.values())) for name, setting in found["settings"].items()}


def test_no_shared_memory_is_registered_and_unregistering_is_no_error(got):
    assert not got["system memory"]
    assert not got["cuda memory"]
    assert got["unregister system memory"] is None
    assert got["unregister cuda memory"] is None


@pytest.mark.parametrize(
    ("requests", "most_bytes"), [(2_000, 2 << 20), pytest.param(100_000, 10 << 20, marks=pytest.mark.slow)]
)
def test_a_great_many_requests_leave_no_memory_behind_on_either_side(pair, requests, most_bytes):
    """Half over each protocol; the server is this process."""
    words = [PYTHON, HERE / "stock_client_load.py", pair.http.removeprefix("http://"), pair.grpc, str(requests)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == "warm\n"
        before = psutil.Process().memory_info().rss
        print(file=client.stdin, flush=True)
        grown = int(client.stdout.readline())
    assert client.returncode == 0
    assert grown < most_bytes
    assert psutil.Process().memory_info().rss - before < most_bytes
