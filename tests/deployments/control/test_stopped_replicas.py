"""The process of a replica that Serve has stopped."""

import subprocess
import sys

import pytest

_STOPPED = """
import time
from quorate.deployments.control import ray_private
ray_private.STOPPED_S = 0.1
ray_private.end_process_later()
time.sleep(600)
"""


@pytest.mark.long
def test_it_ends_even_where_ray_has_forgotten_it():
    assert subprocess.run([sys.executable, "-c", _STOPPED], check=False, timeout=300).returncode == 0
