"""Python and the packages: there, and of the versions that Quorate was tried with."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version

from packaging.requirements import Requirement

from quorate.cluster.doctor.finding import Finding
from quorate.fusion.extras import EXTRAS, lacking

_OLDEST_PYTHON = (3, 10)
# What these bring nobody who serves models needs.
_FOR_DEVELOPERS = {"dev", "triton"}


def check_packages() -> Iterator[Finding]:
    """Python, what is installed, and what is missing for which part."""
    yield _python()
    yield _versions()
    if not lacking("serve"):
        yield _ray()
    for extra in EXTRAS:
        missing = lacking(extra)
        needed = extra == "serve"
        if missing:
            fix = f"pip install 'quorate[{extra}]'" + ("" if needed else ", where you want it")
            yield Finding(f"extra {extra}", "failed" if needed else "ok", f"missing: {', '.join(missing)}", fix)
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        return Finding("python", "failed", found, f"use {'.'.join(map(str, _OLDEST_PYTHON))} or newer")
    return Finding("python", "ok", found)


def _ray() -> Finding:
    try:
        import ray
    except (ImportError, OSError) as error:
        return Finding("Ray", "failed", f"it cannot be imported ({error})", "pip install 'quorate[serve]' again")
    joined = os.environ.get("RAY_ADDRESS")
    if joined:
        fix = "commands without --address use the local cluster all the same"
        return Finding("Ray", "ok", f"{ray.__version__}; RAY_ADDRESS is {joined}", fix)
    return Finding("Ray", "ok", ray.__version__)


def _versions() -> Finding:
    """Of everything that is installed and that Quorate names, compared with the range that it names."""
    wrong, right = [], 0
    for text in distribution("quorate").requires or ():
        requirement = Requirement(text)
        if any(f'extra == "{extra}"' in text for extra in _FOR_DEVELOPERS) or requirement.name == "quorate":
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            continue  # its extra says so
        if requirement.specifier.contains(found, prereleases=True):
            right += 1
        else:
            wrong.append(f"{requirement.name} {found} (tried: {requirement.specifier})")
    known = f"quorate {version('quorate')}, {right} packages in their tried ranges"
    if wrong:
        fix = "pip install 'quorate[all]' again, in an environment of its own"
        return Finding("versions", "warning", f"{known}, and not: {', '.join(wrong)}", fix)
    return Finding("versions", "ok", known)
