"""To a type checker every public name has a type: the stubs say where it lives, and mypy follows them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import quorate
import quorate.deployments
import quorate.fusion
import quorate.tuning

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = (quorate, quorate.fusion, quorate.deployments, quorate.tuning)


def mypy(script):
    """As ``make lint`` runs it, with its cache: a cold one takes a minute."""
    done = subprocess.run([sys.executable, "-m", "mypy", str(script)], cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_no_public_name_is_any(tmp_path):
    names = [(package.__name__, name) for package in PACKAGES for name in package.__all__]
    imports = [f"import {package.__name__}" for package in PACKAGES]
    script = tmp_path / "names.py"
    script.write_text("\n".join([*imports, *(f"reveal_type({package}.{name})" for package, name in names)]))
    found = re.findall(r'Revealed type is "(.*)"', mypy(script))
    assert len(found) == len(names)
    assert [name for name, kind in zip(names, found, strict=True) if kind in ("Any", "def (*Any, **Any) -> Any")] == []


@pytest.mark.timeout(600)
def test_a_users_script_that_uses_every_name_of_the_front_door_type_checks():
    script = HERE / "user_script.py"
    assert [name for name in quorate.__all__ if f"quorate.{name}" not in script.read_text()] == []
    assert mypy(script).splitlines()[-1] == "Success: no issues found in 1 source file"
