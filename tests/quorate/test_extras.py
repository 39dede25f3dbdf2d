"""The bare package does what it says, and one sentence names the command where an extra is missing."""

import os
import re
import subprocess
import sys
from importlib.metadata import requires
from importlib.util import find_spec

import pytest

from quorate.fusion.errors import MissingExtraError
from quorate.fusion.extras import EXTRAS, missing_extra, require

pytestmark = pytest.mark.long

# In a process that begins with this, nothing is installed but what the bare package asks for.
BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
# Where a module is not called like its distribution.
MODULES = {
    "grpcio": "grpc", "grpcio-health-checking": "grpc_health", "grpcio-reflection": "grpc_reflection",
    "protobuf": "google.protobuf", "scikit-learn": "sklearn", "pillow": "pil", "mlflow-skinny": "mlflow",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "opentelemetry-exporter-otlp-proto-grpc": "opentelemetry.exporter.otlp.proto.grpc",
}  # fmt: skip
EVERYTHING = {module.partition(".")[0] for modules in EXTRAS.values() for module in modules}
SPEC = """
name: tiny
inputs: {x: {datatype: FP32, shape: [4]}}
classes: [left, right]
members:
  a: {model: "mine:ramp", inputs: [x]}
  b: {model: "mine:ramp", inputs: [x]}
fusion: {rule: weighted_mean, weights: {a: 0.75, b: 0.25}}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "mine.py").write_text("def ramp(): ...")
    return tmp_path


def bare(folder, code, blocked=EVERYTHING):
    env = {**os.environ, "QUORATE_HOME": str(folder / "home")}
    command = [sys.executable, "-c", BLOCK.format(modules=blocked) + code]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100)


def command(folder, *words, blocked=EVERYTHING):
    code = f"import sys; sys.argv[1:] = {list(words)!r}\nfrom quorate.cluster.cli.main import main\nmain()"
    return bare(folder, code, blocked)


def test_the_bare_package_checks_specs_and_asks_servers(folder, pair):
    code = f"""
import quorate
print(quorate.load_spec("spec.yaml").name, quorate.validate("spec.yaml"))
with quorate.Client({pair.http!r}, model="pair") as client:
    print(client.infer(x=[0.0, 1.0]).outputs["fused"].shape)
"""
    done = bare(folder, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("tiny tiny is valid: 2 members")
    assert done.stdout.splitlines()[1] == "(1, 3)"


@pytest.mark.parametrize(
    ("call", "missing", "sentence"),
    [
        (
            "deploy('spec.yaml')",
            "ray",
            "needs ray, which is not installed; run: pip install 'quorate[serve]'",
        ),
        ("status()", "torch", "needs torch, which is not installed; run: pip install 'quorate[serve]'"),
        ("tune('spec.yaml', 'rows.npz')", "sklearn", "tune needs sklearn, which is not installed"),
        ("bench('tiny', url='http://127.0.0.1:9')", "uvloop", "run: pip install 'quorate[serve]'"),
        ("query_file('tiny', 'a.parquet', 'b.parquet')", "pyarrow", "run: pip install 'quorate[arrow]'"),
        ("TuneResult", "scipy", "quorate.TuneResult needs scipy, which is not installed"),
        ("fusion.Mean", "torch", "quorate.fusion.Mean needs torch, which is not installed"),
    ],
)
def test_a_missing_extra_is_one_sentence_in_python(folder, call, missing, sentence):
    code = f"""
import quorate, quorate.fusion
try:
    quorate.{call}
except quorate.QuorateError as error:
    assert isinstance(error, ImportError)
    print(error)
"""
    done = bare(folder, code, {missing})
    assert done.returncode == 0, done.stderr
    assert sentence in done.stdout


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["deploy", "spec.yaml"], "serve"),
        (["status"], "serve"),
        (["tune", "spec.yaml", "--data", "rows.npz"], "tune"),
        (["demo"], "tune"),
        (["bench", "tiny", "--url", "http://127.0.0.1:9"], "serve"),
    ],
)
def test_a_missing_extra_is_one_sentence_on_the_command_line(folder, words, extra):
    done = command(folder, *words)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: .* is not installed; run: pip install 'quorate\[{extra}\]'\n", done.stderr)
    assert done.stdout == ""


def test_the_command_line_works_bare(folder):
    assert command(folder, "validate", "spec.yaml").stdout.startswith("tiny is valid: 2 members")
    assert "kind: RayService" in command(folder, "manifest", "spec.yaml").stdout
    assert command(folder, "--version").stdout.startswith("quorate ")
    sick = command(folder, "doctor")
    assert (sick.returncode, sick.stderr) == (1, "")
    assert "FAIL  extra serve: missing: ray, torch" in sick.stdout


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_each_distribution_of_an_extra_is_known_by_a_module(extra):
    wanted = [line for line in requires("quorate") or () if re.search(rf"extra == .{extra}.", line)]
    names = {re.split(r"[^A-Za-z0-9_-]", line)[0].lower().replace("_", "-") for line in wanted} - {"quorate"}
    assert names
    modules = {MODULES.get(name, name.lower().replace("-", "_")) for name in names}
    assert modules <= {module.lower() for part in EXTRAS.values() for module in part}


@pytest.mark.parametrize("extra", ["arrow", "serve", "tune", "report"])
def test_an_extra_that_is_installed_is_not_missed(extra):
    assert all(find_spec(module) for module in EXTRAS[extra])
    require(extra, "this test")


def test_a_module_that_no_extra_brings_is_left_to_whoever_misses_it():
    assert missing_extra(ModuleNotFoundError("no", name="mine")) is None
    found = missing_extra(ModuleNotFoundError("no", name="grpc_health.v1"))
    assert isinstance(found, MissingExtraError)
    assert found.extra == "serve"
