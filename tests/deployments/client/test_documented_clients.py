"""The clients of docs/clients.md, each run as it stands there, where its language is installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from quorate import Client

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs/clients.md").read_text(encoding="utf-8"), re.M | re.S)
# What a Python block begins with names what it wants beside, which has an environment of its own.
PYTHON = {
    "tritonclient": Path(os.environ.get("QUORATE_TRITON_PYTHON", ROOT / ".venv-triton/bin/python")),
    "kserve": Path(os.environ.get("QUORATE_KSERVE_PYTHON", ROOT / ".venv-kserve/bin/python")),
}
ROW = np.array([[0.5, -1.0, 0.8, 1.2]], np.float32)


@pytest.fixture(scope="module")
def iris(open_doors, pair_spec):
    classes = ["setosa", "versicolor", "virginica"]
    inputs = {"features": {"datatype": "FP32", "shape": [4]}}
    members = {name: {**member, "inputs": ["features"]} for name, member in pair_spec["members"].items()}
    return open_doors({**pair_spec, "name": "iris", "classes": classes, "inputs": inputs, "members": members})


@pytest.fixture(scope="module")
def expected(iris):
    """Of one row: the likeliest class, and the first digits of its share."""
    with Client(iris.http, model="iris") as client:
        answer = client.infer(features=ROW)
    assert answer.labels
    return answer.labels[0], str(answer.outputs["fused"].max())[:5]


def block(doors, language, word):
    """The block of this language that has a word in it, about these doors."""
    (code,) = [code for kind, code in BLOCKS if kind == language and word in code]
    code = code.replace("http://127.0.0.1:8000", doors.http).replace("127.0.0.1:8000", doors.http.rpartition("/")[2])
    return code.replace("127.0.0.1:8001", doors.grpc)


def run(code, file, *command):
    """What a program prints."""
    file.write_text(code, encoding="utf-8")
    env = {**os.environ, "GOCACHE": str(file.parent / "cache"), "GO111MODULE": "off"}
    done = subprocess.run([*command, file], cwd=file.parent, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("word", ["pd.DataFrame", "AsyncClient", "httpx.Client"])
def test_in_python(iris, expected, capsys, word):
    exec(block(iris, "python", word), {})
    assert expected[0] in capsys.readouterr().out


@pytest.mark.parametrize("word", ["/v2/models/iris/infer -H 'Content-Type: application/json'", "x-ndjson", ":predict"])
def test_with_curl(iris, expected, tmp_path, word):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    said = run(block(iris, "bash", word), tmp_path / "ask.sh", "bash", "-euo", "pipefail")
    assert (expected[0] in said, expected[1] in said) == (True, True), said
    assert ('"id":"2","error"' in said) == (word == "x-ndjson")


@pytest.mark.slow
@pytest.mark.parametrize("package", sorted(PYTHON))
def test_with_another_package(iris, expected, tmp_path, package):
    if not PYTHON[package].exists():
        pytest.skip(f"{package} is not installed: it has an environment of its own")
    assert expected[1] in run(block(iris, "python", f"# {package}"), tmp_path / "ask.py", PYTHON[package])


@pytest.mark.slow
@pytest.mark.parametrize(("file", "command"), [("Ask.java", ["java"]), ("ask.go", ["go", "run"])])
def test_in_another_language(iris, expected, tmp_path, file, command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    said = run(block(iris, file.rpartition(".")[2], ""), tmp_path / file, *command)
    assert (expected[0] in said, expected[1] in said) == (True, True), said
