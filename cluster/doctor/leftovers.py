"""The state folder, the local cluster that it names, and what clusters that died have left."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from quorate.cluster.doctor.finding import Finding
from quorate.deployments.state_folder import state_folder
from quorate.fusion.extras import lacking


def check_leftovers() -> Iterator[Finding]:
    """Whether state can be kept, and what there is."""
    writable = _state_folder()
    yield writable
    if writable.state == "ok" and not lacking("serve"):
        yield from _clusters()


def _state_folder() -> Finding:
    try:
        folder = state_folder()
        with tempfile.TemporaryFile(dir=folder):
            return Finding("state folder", "ok", f"{folder} can be written")
    except OSError as error:
        fix = "set QUORATE_HOME to a folder that you may write to"
        return Finding("state folder", "failed", f"{error.filename} cannot be written ({error.strerror})", fix)


def _clusters() -> Iterator[Finding]:
    from quorate.cluster.local.state import FOLDER_PREFIX, LocalCluster

    state, mine = state_folder() / "local.json", None
    try:
        mine = LocalCluster(**json.loads(state.read_text()))
    except FileNotFoundError:
        yield Finding("local cluster", "ok", "none runs; quorate deploy starts one")
    except (OSError, ValueError, TypeError):
        yield Finding("local cluster", "warning", f"{state} is damaged", "the next command that needs it removes it")
    if mine is not None and mine.alive():
        yield Finding("local cluster", "ok", f"runs as process {mine.pid}, in {mine.folder}")
    elif mine is not None:
        found = f"process {mine.pid} has died and left {mine.folder}"
        yield Finding("local cluster", "warning", found, "quorate down removes it")
    others = [path for path in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/ray") if _is_dead(path.parent)]
    if others:
        names = " ".join(str(path.parent) for path in others)
        yield Finding("leftovers", "warning", f"{len(others)} folders of clusters that have ended", f"rm -r {names}")


def _is_dead(folder: Path) -> bool:
    """Whether no process has the folder of a cluster as its own any more."""
    import psutil

    from quorate.cluster.local.state import MARK

    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder):
                return False
        except psutil.Error:
            continue  # another user's, or gone
    return folder.owner() == Path.home().owner()
