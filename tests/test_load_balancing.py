"""The configurations of docs/load-balancing.md: each is taken by the program it is for, where that is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

PAGE = Path(__file__).parents[1] / "docs" / "load-balancing.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def block(language, word):
    (found,) = [text for kind, text in BLOCKS if kind == language and word in text]
    return found


@pytest.mark.parametrize(
    ("program", "arguments", "language", "word"),
    [
        ("haproxy", ["-c", "-f"], "haproxy", "httpchk"),
        ("envoy", ["--mode", "validate", "--log-level", "error", "-c"], "yaml", "static_resources"),
    ],
)
def test_a_proxy_takes_its_configuration(program, arguments, language, word, tmp_path):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    file = tmp_path / "proxy.yaml"
    file.write_text(block(language, word))
    done = subprocess.run([program, *arguments, file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_for_kubernetes_is_whole_yaml():
    services = list(yaml.safe_load_all(block("yaml", "kind: Service")))
    assert [service["kind"] for service in services] == ["Service", "Service"]
    assert yaml.safe_load(block("yaml", "readinessProbe"))["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
