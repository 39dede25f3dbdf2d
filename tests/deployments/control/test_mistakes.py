"""Mistakes that only a cluster can tell: a member that is too slow to load, a GPU that is not there, a taken port."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import DeployError
from quorate.deployments.security.doors import bind

CODE = """
import time

def ok():
    return lambda x: x

def slow():
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "cluster_mistakes.py").write_text(CODE)
    return folder


def spec(model, **resources):
    member = {"model": f"cluster_mistakes:{model}", "inputs": ["x"], "output": "values"}
    return parse_spec(
        {
            "name": f"mistaken-{model}",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {"m": {**member, "resources": {"num_cpus": 0.1, **resources}}},
            "fusion": {"rule": "mean"},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )


def test_a_member_that_loads_too_long_is_named_with_the_seconds_and_what_shows_more(cluster, folder):
    from quorate.deployments.control.deploy import deploy

    told = []
    fix = "give --timeout more, or see what it does: quorate logs mistaken-slow m"
    late = "m( is|, the doors on .* are) not ready after 3 s"  # doors come up meanwhile, in more or less time
    with pytest.raises(DeployError, match=f"^{late}.*; {fix}$"):
        deploy(spec("slow"), folder, timeout_s=3, progress=lambda states, seconds: told.append((states, seconds)))
    assert "m" in {name for states, _ in told for name in states}


def test_who_asks_for_a_gpu_where_none_is_runs_on_the_cpu_and_that_is_told(cluster, folder):
    from quorate.deployments.control.deploy import delete, deploy

    done = deploy(spec("ok", num_gpus=0.25), folder)
    try:
        assert done.on_cpu == ("m",)
        with bind("127.0.0.1", 0) as taken:
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(
                DeployError, match=f"port {port} of 127.0.0.1 cannot be had on node .*; give another, or"
            ):
                deploy(spec("ok", num_gpus=0.25), folder, http_port=port)
        assert deploy(spec("ok", num_gpus=0.25), folder).http == done.http
    finally:
        delete("mistaken-ok")
