"""The ensemble on Triton: three Python-backend members, an averaging model, an ensemble that wires them.

Runs the ``tritonserver`` that the PyPI package nvidia-pytriton carries, from an environment of its own: its stub reads
NumPy 1's structures. The members' processes find torch in this interpreter's packages, so both must be the same Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from child import free_port, serve_until_told
from mlp import NUM_CLASSES, NUM_FEATURES, SEEDS

HERE = Path(__file__).parent
_FIND = """
import json, sys, sysconfig
print(json.dumps([sys.version_info[:2], sysconfig.get_path("purelib"), sysconfig.get_config_var("LIBDIR")]))
"""


def write_repository(root: Path, paths: list[str]) -> None:
    """Model configurations as Triton's documentation on ensembles has them; ``paths`` are the models' packages."""
    batching = 'backend: "python"\ndynamic_batching { }'
    for seed in SEEDS:
        parameters = f'parameters {{ key: "seed" value: {{ string_value: "{seed}" }} }}'
        _write_model(
            root, f"mlp{seed}", _tensor("input", "x", NUM_FEATURES), _tensor("output", "probabilities", NUM_CLASSES),
            f"{batching}\n{parameters}", _code("triton_member.py", paths),
        )  # fmt: skip
    columns = "\n".join(_tensor("input", f"probabilities{seed}", NUM_CLASSES) for seed in SEEDS)
    output = _tensor("output", "fused", NUM_CLASSES)
    _write_model(
        root, "mean", columns, output, 'backend: "python"\ndynamic_batching { }', _code("triton_mean.py", paths)
    )
    steps = [_step(f"mlp{s}", ["x", "x"], ["probabilities", f"p{s}"]) for s in SEEDS]
    inputs = "\n    ".join(f'input_map {{ key: "probabilities{s}" value: "p{s}" }}' for s in SEEDS)
    mean = f'  {{\n    model_name: "mean" model_version: -1\n    {inputs}\n'
    steps.append(mean + '    output_map { key: "fused" value: "fused" }\n  }')
    scheduling = 'platform: "ensemble"\nensemble_scheduling { step [\n' + ",\n".join(steps) + "\n] }"
    _write_model(root, "mlps", _tensor("input", "x", NUM_FEATURES), output, scheduling, None)


def _code(file: str, paths: list[str]) -> str:
    # The stub starts its interpreter without PYTHONPATH.
    return f"import sys\nsys.path[:0] = {paths}\n{(HERE / file).read_text()}"


def _tensor(kind: str, name: str, size: int) -> str:
    return f'{kind} [{{ name: "{name}" data_type: TYPE_FP32 dims: [ {size} ] }}]'


def _step(model: str, inputs: list[str], outputs: list[str]) -> str:
    return f'''  {{
    model_name: "{model}" model_version: -1
    input_map {{ key: "{inputs[0]}" value: "{inputs[1]}" }}
    output_map {{ key: "{outputs[0]}" value: "{outputs[1]}" }}
  }}'''


def _write_model(root: Path, name: str, inputs: str, outputs: str, rest: str, code: str | None) -> None:
    (root / name / "1").mkdir(parents=True)
    (root / name / "config.pbtxt").write_text(f'name: "{name}"\nmax_batch_size: 64\n{inputs}\n{outputs}\n{rest}\n')
    if code:
        (root / name / "1" / "model.py").write_text(code)


def start_server(python: str, folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start tritonserver from the environment of ``python``."""
    version, packages, libraries = json.loads(subprocess.check_output([python, "-c", _FIND]))
    if tuple(version) != sys.version_info[:2]:
        sys.exit(f"{python} is Python {version}, this one {sys.version_info[:2]}; both must be the same")
    home = Path(packages) / "pytriton" / "tritonserver"
    if not home.is_dir():
        sys.exit(f"{python} has no nvidia-pytriton; pip install it there")
    backend = folder / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    shutil.copy(home / "python_backend_stubs" / ".".join(map(str, version)) / "triton_python_backend_stub", backend)
    write_repository(folder / "models", [packages, str(HERE), sysconfig.get_path("purelib")])
    command = [
        str(home / "bin" / "tritonserver"), f"--model-repository={folder / 'models'}",
        f"--backend-directory={backend.parent}", "--http-address=127.0.0.1", f"--http-port={port}",
        "--allow-grpc=false", "--allow-metrics=false", "--log-error=true", "--log-info=false", "--log-warning=false",
    ]  # fmt: skip
    libraries = os.pathsep.join([libraries, str(Path(packages) / "nvidia_pytriton.libs")])
    return subprocess.Popen(command, env=os.environ | {"LD_LIBRARY_PATH": libraries}, stdout=sys.stderr)


def main() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(sys.argv[1], Path(folder), port)
        try:
            _wait_until_ready(server, f"http://127.0.0.1:{port}/v2/health/ready")
            serve_until_told(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(timeout=60)


def _wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"tritonserver ended with code {server.returncode}; its log is above")
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit("tritonserver was not ready within a minute")


if __name__ == "__main__":
    main()
