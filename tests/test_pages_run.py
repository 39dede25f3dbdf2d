"""The README and the pages behind it are code: their blocks run, in this order, in one empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployments.support.huggingface_folders import bert

pytestmark = [pytest.mark.ray, pytest.mark.docs]

ROOT = Path(__file__).parents[1]
# What one page leaves running, or writes, others go on with.
PAGES = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("data", "models", "graphs", "clusters", "operating", "learning", "tuning", "fusion")
    ),
]


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```(python|bash|yaml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


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
def test_every_block_of_the_pages_runs(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "QUORATE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "TMPDIR": "/tmp"}
    assert all(blocks(page) for page in PAGES)
    bert(tmp_path / "tinybert")  # what its reader has
    try:
        for page in PAGES:
            for kind, code in blocks(page):
                run(kind, code, tmp_path, env)
    finally:
        subprocess.run(["quorate", "down"], env=env, check=True, capture_output=True, timeout=100)
