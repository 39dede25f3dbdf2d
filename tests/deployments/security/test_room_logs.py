"""A whole room of tests is run with secrets in its environment and headers: no log and no file has one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[3]
SECRET = "canary-77aa0c0ffee5"
NAMES = ("API_KEY", "DATABASE_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY", "GITHUB_TOKEN")
# They log what they send, and are clients.
_CLIENTS = re.compile(r"httpx|httpcore|hpack")


@pytest.mark.parametrize("room", ["server", "security", "engine", "members", "client"])
def test_no_secret_is_in_anything_that_a_rooms_tests_log_print_or_leave(tmp_path, room):
    log, left = tmp_path / "debug.log", tmp_path / "left"
    env = {**os.environ, **dict.fromkeys(NAMES, SECRET), "QUORATE_HOME": str(tmp_path / "home")}
    words = [f"tests/deployments/{room}", "-q", "-s", "-m", "not slow and not ray and not long"]
    words += ["--basetemp", str(left), "--log-file", str(log), "--log-file-level", "DEBUG"]
    words += ["-p", "tests.deployments.support.secret_headers", "-p", "no:cacheprovider"]
    words += ["-o", "tmp_path_retention_policy=all"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    lines = [line for path in files for line in path.read_bytes().decode(errors="replace").splitlines()]
    lines += (done.stdout + done.stderr).splitlines()
    print(f"{room}: {len(lines):,} lines in {len(files)} files")
    assert log.stat().st_size > 1000
    assert not [line for line in lines if SECRET in line and not _CLIENTS.search(line)]
