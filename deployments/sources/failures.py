"""What is said of a member whose own code fails while it is loaded or tried: its message whole, and its own lines."""

from __future__ import annotations

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.member_traceback import own_lines
from quorate.fusion.extras import missing_extra


def load_error(member: str, what: str, error: BaseException, fix: str) -> MemberLoadError:
    """The error of a member that could not be loaded, because of another.

    Args:
        what: failed, such as "mine:build failed".
        fix: where the error itself says nothing better.
    """
    text = str(error).strip()
    found = f"{what} with {type(error).__name__}" + (f": {text}" if text else "")
    return MemberLoadError(member, found, _fix(error) or fix, own_lines(error))


def _fix(error: BaseException) -> str:
    """What the kind of an error says; empty for nothing."""
    extra = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
    if extra is not None:
        return f"run on every node: pip install 'quorate[{extra.extra}]'"
    missing = error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else ""
    if missing:
        return f"install {missing} on every node that runs the member, or put it beside the spec"
    if isinstance(error, SyntaxError):
        return "correct the file"
    if isinstance(error, FileNotFoundError):
        return "check its config: relative paths start from the spec's folder"
    return ""
