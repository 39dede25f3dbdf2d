"""Every call of the stock tritonclient, over each of its four clients, answers as Triton does."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("QUORATE_TRITON_PYTHON", HERE.parents[1] / ".venv-triton" / "bin" / "python"))
ROWS = np.array([[0.5, -1.0], [2.0, 0.25]])
CLIENTS = ["http", "http aio", "grpc", "grpc aio"]

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no stock tritonclient; make test-triton installs it")


def known(shift):
    """The right answer of ``factories/known.py``, computed in float64 from its definition."""
    scores = np.stack([ROWS[:, 0] + shift, ROWS[:, 1] - shift, ROWS[:, 0] * ROWS[:, 1]], axis=1)
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


FUSED = (0.25 * known(1) + 0.75 * known(-2)).ravel()


@pytest.fixture(scope="module")
def answers(pair):
    command = [PYTHON, HERE / "stock_client_calls.py", pair.http.removeprefix("http://"), pair.grpc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=CLIENTS)
def got(request, answers):
    return answers[request.param]


def test_health_tells_known_models_from_unknown_ones(got):
    assert [got[call] for call in ("live", "ready", "model ready", "model version ready")] == [True] * 4
    assert got["unknown model ready"] is False


def test_metadata_config_statistics_and_index_name_the_models(got):
    assert got["model metadata"]["versions"] == ["1"]
    config = got["model config"].get("config", got["model config"])
    assert (config["name"], config["input"][0]["data_type"]) == ("pair", "TYPE_FP32")
    assert got["statistics"]["model_stats"][0]["name"] == "pair"
    assert [model["name"] for model in got["all statistics"]["model_stats"]] == ["pair", "a", "b"]
    index = got["index"]["models"] if isinstance(got["index"], dict) else got["index"]
    assert {(model["name"], model["state"]) for model in index} == {(name, "READY") for name in ("pair", "a", "b")}


def test_every_way_to_infer_gets_the_weighted_mean(got):
    ways = [way for way in got if "infer" in way and way.split()[-1] not in ("classes", "parameters", "unknown")]
    assert len(ways) >= 3
    for way in ways:
        np.testing.assert_allclose(got[way], FUSED, atol=1e-6, err_msg=way)
    np.testing.assert_allclose(got["infer parameters"], known(-2).ravel(), atol=1e-6)


def test_a_stream_answers_in_order_and_an_error_ends_only_its_own_request(answers):
    first, error, last = answers["grpc"]["stream"]
    np.testing.assert_allclose([first, last], [FUSED] * 2, atol=1e-6)
    assert "'nobody' is not found" in error
    np.testing.assert_allclose(answers["grpc aio"]["stream"], [FUSED] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "http", "grpc"),
    [
        ("unknown model metadata", 404, "NOT_FOUND"),
        ("infer unknown", 404, "NOT_FOUND"),
        ("load", 503, "UNAVAILABLE"),
        ("unload", 503, "UNAVAILABLE"),
        ("update trace", 503, "UNAVAILABLE"),
        ("update model trace", 503, "UNAVAILABLE"),
        ("trace", 503, "UNAVAILABLE"),
        ("update log", 503, "UNAVAILABLE"),
        ("log", 503, "UNAVAILABLE"),
        ("one system memory", 404, "NOT_FOUND"),
        ("one cuda memory", 404, "NOT_FOUND"),
        ("register system memory", 501, "UNIMPLEMENTED"),
        ("register cuda memory", 400, "INVALID_ARGUMENT"),
    ],
)
def test_what_is_not_there_or_off_is_an_error_with_tritons_code(answers, call, http, grpc):
    for client in CLIENTS:
        code = f"StatusCode.{grpc} " if client.startswith("grpc") else f"{http} "
        assert answers[client][call]["error"].startswith(code)


def test_no_shared_memory_is_registered_and_unregistering_is_no_error(got):
    assert not got["system memory"]
    assert not got["cuda memory"]
    assert got["unregister system memory"] is None
    assert got["unregister cuda memory"] is None
