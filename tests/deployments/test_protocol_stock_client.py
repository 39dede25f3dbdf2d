"""The stock tritonclient, in an environment of its own (`make test-triton`): its protobuf is not always ours."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("QUORATE_TRITON_PYTHON", HERE.parents[1] / ".venv-triton" / "bin" / "python"))
ROWS = np.array([[1, 2], [0.5, -1], [-2, 1]])

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no stock tritonclient; make test-triton installs it")


def known(shift):
    """The right answer of ``factories/known.py``, computed in float64 from its definition."""
    scores = np.stack([ROWS[:, 0] + shift, ROWS[:, 1] - shift, ROWS[:, 0] * ROWS[:, 1]], axis=1)
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module", params=["http", "aio", "grpc"])
def got(request, pair):
    address = pair.grpc if request.param == "grpc" else pair.http.removeprefix("http://")
    command = [PYTHON, HERE / "stock_client.py", request.param, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_finds_the_server_and_the_model_and_no_unknown_one(got):
    assert [got[key] for key in ("live", "ready", "model_ready", "unknown_ready")] == [True, True, True, False]


@pytest.mark.parametrize("way", ["infer", "packed"])
def test_its_infer_gets_the_weighted_mean(got, way):
    np.testing.assert_allclose(got[way], 0.25 * known(1) + 0.75 * known(-2), atol=1e-6)


def test_its_class_count_gets_the_best_classes(got):
    fused, names = 0.25 * known(1) + 0.75 * known(-2), ("red", "green", "blue")
    for row, found in zip(fused, got["classes"], strict=True):
        best = np.argsort(-row)[:2]
        assert [item.split(":")[1:] for item in found] == [[str(at), names[at]] for at in best]
        np.testing.assert_allclose([float(item.split(":")[0]) for item in found], row[best], atol=2e-6)


def test_it_raises_its_own_error_for_an_unknown_model(got):
    kind, text = got["unknown"]
    assert kind == "InferenceServerException"
    assert "'nobody' is not found" in text
