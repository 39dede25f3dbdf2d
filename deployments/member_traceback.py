"""Where in a member's own code something was raised: its files and lines, not ours and not the libraries'."""

from __future__ import annotations

import linecache
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

# Of a deep stack the last lines say what happened.
_MOST_FRAMES = 3
_LIBRARIES = tuple(
    {
        f"{folder}/"
        for folder in (
            *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
            *site.getsitepackages(),
            site.getusersitepackages(),
            *(entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")),
        )
    }
)


def own_lines(error: BaseException) -> str:
    """The last lines of a member's own code that led to an error: indented, a place and what stands there.

    Empty where none of its own code ran. Of one out of another process they came with it.
    """
    brought = getattr(error.__cause__, "own_lines", None)
    if isinstance(brought, str):
        return brought
    return "\n".join(_shown(*place) for place in _places(error)[-_MOST_FRAMES:])


def own_place(error: BaseException) -> str:
    """File and line of the last of these, to tell one failure from another; empty for none."""
    return next((f"{_short(path)}:{line}" for path, line, _ in reversed(_places(error))), "")


def _places(error: BaseException) -> list[tuple[str, int, str]]:
    """File, line and function, the last one at the end; of the error, or else of what it was raised from."""
    seen: set[int] = set()
    raised: BaseException | None = error
    while raised is not None and id(raised) not in seen:
        seen.add(id(raised))
        found = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in _own(raised.__traceback__)]
        if isinstance(raised, SyntaxError) and raised.filename and not raised.filename.startswith("<"):
            found.append((raised.filename, raised.lineno or 1, ""))  # what cannot be read has not run
        if found:
            return found
        raised = raised.__cause__ or (None if raised.__suppress_context__ else raised.__context__)
    return []


def _own(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        ours = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == "quorate"
        if not ours and not path.startswith(("<", *_LIBRARIES)):
            yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _shown(path: str, line: int, function: str) -> str:
    where = f", in {function}" if function and function != "<module>" else ""
    text = linecache.getline(path, line).strip()
    return f"  {_short(path)}:{line}{where}" + (f"\n    {text}" if text else "")


def _short(path: str) -> str:
    """As it is imported: from the folder where Python looked for it."""
    folders = [entry for entry in sys.path if entry and path.startswith(f"{entry.rstrip('/')}/")]
    return str(Path(path).relative_to(max(folders, key=len))) if folders else path
