"""What members write is found on the nodes of a cluster, also of members that never came up."""

import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from quorate.deployments.errors import DeployError, MemberStartError, RemoteError

CODE = """
import warnings
import numpy as np

def picky():
    print("the vocabulary is there")
    warnings.warn("an old vocabulary")

    def model(x):
        if (x > 10).any():
            raise KeyError("no such feature")
        return x
    return model

def broken():
    raise RuntimeError("cannot open the vocabulary\\nin two lines")
"""


def spec(model):
    member = {"model": f"logged_members:{model}", "inputs": ["x"], "output": "values", "resources": {"num_cpus": 0.1}}
    return parse_spec(
        {
            "name": f"logs-{model}",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "members": {"m": member},
            "fusion": {"rule": "mean", "deadline_s": 20.0},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    (folder / "logged_members.py").write_text(CODE)
    return folder


def test_prints_warnings_and_tracebacks_of_requests_are_kept_and_outlive_the_member(cluster, folder):
    from quorate.cluster.operations.status import status_of
    from quorate.deployments.control.deploy import delete, deploy
    from quorate.deployments.control.member_logs import kept_on_nodes, logs_on_nodes

    with Client(deploy(spec("picky"), folder).http, model="logs-picky") as client:
        client.infer(x=np.zeros((1, 2), np.float32))
        with pytest.raises(RemoteError, match="m:error"):
            client.infer(x=np.full((1, 2), 11, np.float32))
    (shown,) = status_of("logs-picky").tables()
    assert "KeyError: 'no such feature' (logged_members.py:11); quorate logs logs-picky m" in shown.lines[0]
    delete("logs-picky")
    (log,), silent = logs_on_nodes(("logs-picky",), "m")
    assert (bool(log.node), silent) == (True, [])
    for said in ("the vocabulary is there", "UserWarning: an old vocabulary", "KeyError: 'no such feature'"):
        assert said in log.text
    assert ("logs-picky", "m") in kept_on_nodes()


def test_what_members_write_is_followed_and_of_the_last_minutes(cluster, folder, monkeypatch):
    import quorate
    from quorate.cluster.operations import logs as operation
    from quorate.deployments.control.deploy import delete, deploy

    monkeypatch.setattr(operation, "EVERY_S", 0.01)
    with Client(deploy(spec("picky"), folder).http, model="logs-picky") as client:
        followed = quorate.follow_logs("logs-picky", "m", since_s=600)
        assert "the vocabulary is there" in next(followed).replicas[-1].text
        with pytest.raises(RemoteError, match="m:error"):
            client.infer(x=np.full((1, 2), 12, np.float32))
        (new,) = next(followed).replicas
        assert "KeyError: 'no such feature'" in new.text
        assert "the vocabulary is there" not in new.text
        followed.close()
    assert "Traceback" in quorate.logs("logs-picky", since_s=600).replicas[-1].text
    delete("logs-picky")


def test_a_member_that_does_not_start_says_why_whole_and_with_its_own_lines(cluster, folder):
    from quorate.deployments.control.deploy import deploy
    from quorate.deployments.control.member_logs import logs_on_nodes

    with pytest.raises(DeployError) as raised:
        deploy(spec("broken"), folder)
    assert isinstance(raised.value, MemberStartError)
    assert str(raised.value) == (
        "members.m: logged_members:broken failed with RuntimeError: cannot open the vocabulary\nin two lines; "
        "correct it, or its config\n  logged_members.py:16, in broken\n"
        '    raise RuntimeError("cannot open the vocabulary\\nin two lines")'
    )
    assert "Traceback (most recent call last)" in logs_on_nodes(("logs-broken",), None)[0][0].text
