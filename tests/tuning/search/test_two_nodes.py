"""Trials are spread over nodes, and a node that is lost in the middle of a sweep changes nothing but the time."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

SCRIPT = (
    "import sys; from pathlib import Path; from tests.tuning.support.two_nodes import main; main(Path(sys.argv[1]))"
)


@pytest.fixture
def short():
    """Ray's sockets lie below it, whose paths may have a hundred letters; and no other Ray finds this one's address."""
    folder = tempfile.mkdtemp(prefix="q", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_sweep_uses_both_nodes_and_ends_right_when_one_is_killed(tmp_path, short):
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=Path(__file__).parents[3], env={**os.environ, **quiet, "RAY_TMPDIR": short},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"nodes_used": 2, "killed": 1, "alive": 2, "same": True, "failed": [], "store": True}
