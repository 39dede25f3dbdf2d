"""The README is code: its blocks run, in order, in one empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployments.support.huggingface_folders import bert

pytestmark = [pytest.mark.ray, pytest.mark.docs]

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|bash|yaml)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(kind, code, folder, env):
    if kind == "yaml":
        named = re.match(r"# (\S+)\n", code)
        assert named is not None
        (folder / named[1]).write_text(code, encoding="utf-8")
        return
    command = [sys.executable, "-c", code] if kind == "python" else ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(1800)
def test_every_block_of_the_readme_runs(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "QUORATE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "TMPDIR": "/tmp"}
    assert len(BLOCKS) > 5
    bert(tmp_path / "tinybert")  # what its reader has
    try:
        for kind, code in BLOCKS:
            run(kind, code, tmp_path, env)
    finally:
        subprocess.run(["quorate", "down"], env=env, check=True, capture_output=True, timeout=100)
