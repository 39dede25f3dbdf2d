"""The ensemble on Triton, with its Python or its ONNX Runtime backend, as its documentation on ensembles has it.

Runs the ``tritonserver`` that the PyPI package nvidia-pytriton carries, from an environment of its own: its stub reads
NumPy 1's structures. Members' processes of the Python backend find torch in this interpreter's packages, so both must
be the same Python. The package has no ONNX Runtime backend; a folder with one (``libtriton_onnxruntime.so`` of the same
release, and what it is linked with) is named by ``--onnx-backend``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from argparse import Namespace
from pathlib import Path

import torch
from child import asked, free_port, serve_until_told
from repository import Repository

HERE = Path(__file__).parent
_FIND = """
import json, sys, sysconfig
print(json.dumps([sys.version_info[:2], sysconfig.get_path("purelib"), sysconfig.get_config_var("LIBDIR")]))
"""


def start_server(arguments: Namespace, folder: Path, http: int, grpc: int) -> subprocess.Popen[bytes]:
    """Start tritonserver from the environment of ``arguments.python``, its files in a folder."""
    python = arguments.python
    version, packages, libraries = json.loads(subprocess.check_output([python, "-c", _FIND]))
    if tuple(version) != sys.version_info[:2]:
        sys.exit(f"{python} is Python {version}, this one {sys.version_info[:2]}; both must be the same")
    home = Path(packages) / "pytriton" / "tritonserver"
    if not home.is_dir():
        sys.exit(f"{python} has no nvidia-pytriton; pip install it there")
    repository = Repository(folder / "models", arguments.members, arguments.features)
    (folder / "backends").mkdir()
    if arguments.onnx_backend:
        (folder / "backends" / "onnxruntime").symlink_to(Path(arguments.onnx_backend).resolve())
        repository.write_onnx()
    else:
        backend = folder / "backends" / "python"
        shutil.copytree(home / "backends" / "python", backend)
        shutil.copy(home / "python_backend_stubs" / ".".join(map(str, version)) / "triton_python_backend_stub", backend)
        repository.write_python([packages, str(HERE.parent), str(Path(torch.__file__).parents[1])])
    command = [
        str(home / "bin" / "tritonserver"), f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}", "--http-address=127.0.0.1", f"--http-port={http}",
        "--grpc-address=127.0.0.1", f"--grpc-port={grpc}", "--allow-metrics=false",
        "--log-error=true", "--log-info=false", "--log-warning=false",
    ]  # fmt: skip
    found = os.pathsep.join([libraries, str(Path(packages) / "nvidia_pytriton.libs")])
    return subprocess.Popen(command, env=os.environ | {"LD_LIBRARY_PATH": found}, stdout=sys.stderr)


def main() -> None:
    arguments = asked(python="", onnx_backend="")
    http, grpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(arguments, Path(folder), http, grpc)
        try:
            _wait_until_ready(server, f"http://127.0.0.1:{http}/v2/health/ready")
            serve_until_told(f"http://127.0.0.1:{http}", grpc=f"127.0.0.1:{grpc}")
        finally:
            server.terminate()
            server.wait(timeout=60)


def _wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(1200):
        if server.poll() is not None:
            sys.exit(f"tritonserver ended with code {server.returncode}; its log is above")
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit("tritonserver was not ready within two minutes")


if __name__ == "__main__":
    main()
