"""What is said of Python and of packages."""

from importlib.metadata import version

import pytest

from quorate.cluster.doctor import packages
from quorate.cluster.doctor.packages import check_packages


def found(check):
    return next(finding for finding in check_packages() if finding.check == check)


def test_an_installation_as_the_tests_have_it_is_healthy():
    states = {finding.check: finding.state for finding in check_packages()}
    assert set(states.values()) == {"ok"}
    assert {"python", "versions", "Ray", "extra serve", "extra tune"} <= states.keys()


@pytest.mark.parametrize(
    ("installed", "named"), [("2.40.0", "ray 2.40.0 (tried: <2.61,>=2.60)"), ("9", "ray 9 (tried")]
)
def test_a_package_outside_of_its_range_is_named_with_it(monkeypatch, installed, named):
    monkeypatch.setattr(packages, "version", lambda name: installed if name == "ray" else version(name))
    finding = found("versions")
    assert finding.state == "warning"
    assert named in finding.found


@pytest.mark.parametrize(("extra", "state"), [("serve", "failed"), ("onnx", "ok")])
def test_what_an_extra_lacks_is_named_with_the_command_that_installs_it(monkeypatch, extra, state):
    monkeypatch.setattr(packages, "lacking", lambda name: ["something"] if name == extra else [])
    finding = found(f"extra {extra}")
    assert (finding.state, finding.found) == (state, "missing: something")
    assert f"pip install 'quorate[{extra}]'" in finding.fix


def test_a_python_that_is_too_old_fails(monkeypatch):
    monkeypatch.setattr(packages, "_OLDEST_PYTHON", (4, 0))
    assert found("python").state == "failed"
