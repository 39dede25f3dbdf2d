"""What ``import quorate`` brings, from wherever it is imported, and what it leaves for later."""

import subprocess
import sys
from pathlib import Path

import pytest

import quorate

ROOT = Path(__file__).parents[2]
LATER = ("torch", "ray", "pydantic", "httpx", "numpy", "pyarrow", "rich", "typer", "yaml", "sklearn", "scipy")


def run(code, folder):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_packages_imports_nothing_heavy(tmp_path):
    packages = "quorate, quorate.fusion, quorate.deployments, quorate.tuning"
    assert run(f"import sys, {packages}; print(*sorted(set({LATER!r}) & set(sys.modules)))", tmp_path) == []


def test_the_command_line_starts_without_what_its_commands_need(tmp_path):
    code = f"import sys, quorate.cluster.cli.main; print(*sorted(set({LATER!r}) & set(sys.modules)))"
    assert set(run(code, tmp_path)) <= {"typer", "rich"}


def test_the_front_door_loads_neither_torch_nor_ray_before_a_call(tmp_path):
    names = ("load_spec", "Client", "AsyncClient", "deploy", "connect", "tune", "sweep", "promote")
    code = f"""
import sys, quorate
for name in {names}:
    getattr(quorate, name)
    print(*(f"{{name}} loads {{module}}" for module in ("torch", "ray") if module in sys.modules))
"""
    assert run(code, tmp_path) == []


@pytest.mark.parametrize("folder", ["the checkout's root", "another folder"])
def test_the_packages_are_found_once_from_anywhere(folder, tmp_path):
    place = ROOT if folder == "the checkout's root" else tmp_path
    code = "import quorate, quorate.fusion as f; print(quorate.load_spec.__module__, f.__file__)"
    module, file = run(code, place)
    assert module == "quorate.deployments.spec.files"
    assert Path(file).name == "__init__.py"
    done = subprocess.run(
        [sys.executable, "-m", "quorate.cluster.cli.main", "--version"], cwd=place, capture_output=True, text=True
    )
    assert done.stdout == f"quorate {quorate.__version__}\n"


def test_every_public_name_is_there():
    missing = [name for name in quorate.__all__ if getattr(quorate, name, None) is None]
    assert missing == []
    assert {
        "load_spec", "deploy", "connect", "tune", "sweep", "promote", "Client", "AsyncClient", "__version__",
        "validate", "plan", "status", "query", "query_file", "rollback", "down", "bench", "compress", "resume", "demo",
        "convert", "import_autogluon", "shadow", "drift",
    } <= set(quorate.__all__)  # fmt: skip


def test_no_public_name_hides_a_package_or_the_other_way_round():
    rooms = {"cluster", "deployments", "fusion", "tuning"}
    assert not rooms & set(quorate.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_it"):
        quorate.nothing_like_it  # type: ignore[attr-defined]  # noqa: B018
