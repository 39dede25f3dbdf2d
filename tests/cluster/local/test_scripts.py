"""A script, or a notebook, that starts the local cluster and takes it down: it goes on."""

import pytest

from tests.cluster.support.command_line import Shell

pytestmark = pytest.mark.ray

SCRIPT = """
import quorate

resources = {"num_cpus": 0.1}
member = {"model": "same:make", "inputs": ["x"], "output": "values", "resources": resources}
spec = {
    "name": "e", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "members": {"a": member},
    "fusion": {"rule": "mean"}, "serving": {"resources": resources},
}
quorate.deploy(spec, folder=".")
print(len(quorate.status()))
print(quorate.down())
print("goes on")
"""


def test_a_script_that_has_deployed_takes_the_cluster_down_and_goes_on(tmp_path):
    (tmp_path / "same.py").write_text("def make():\n    return lambda x: x\n")
    done = Shell(tmp_path).python(SCRIPT)
    assert done.stdout.splitlines()[-3:] == ["1", "stopped the local cluster", "goes on"], done.stderr
