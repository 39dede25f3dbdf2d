"""How a bandit that learns stands, as it is told: in a line for a status, or through time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quorate.deployments.display import Table
from quorate.deployments.learning.online.dates import date_of

_SHOWN = 12
UNIT = "right a row, less what is asked"


def said_of(one: Mapping[str, Any]) -> str:
    """A line of what ``BanditLearner.report`` gave."""
    policy = one["policy"]
    everybody = policy["everyone"]
    said = (
        f"{one['output']}: {policy['asked']:.2f} of {policy['members']} members a row are asked, accuracy "
        f"{policy['accuracy']:.4f}; everybody's is {everybody:.4f}, the floor {everybody - policy['max_loss']:.4f}"
    )
    if policy["loss"] is not None:
        said += f" (lost {_interval(policy['loss'])} since this went live)"
    learned = f"learned: {policy['learned_asks']:.2f} members a row, accuracy {policy['learned']:.4f}"
    gain = f", a gain of {_interval(policy['gain'])}" if policy["gain"] is not None else ""
    asks = "; everybody is asked until more is known" if policy["asks_all"] else ""
    return f"{said}; {learned}{gain}{asks}"


def tables_of(one: Mapping[str, Any], nothing: str) -> list[Table]:
    """Through time, and what went live, of the same.

    Args:
        nothing: what is said where nothing has.
    """
    policy, points = one["policy"], one["policy"]["points"]
    step = max(1, -(-len(points) // _SHOWN))
    shown = points[::-1][::step][::-1]
    rows = [
        [
            str(at["labels"]), date_of(at["time_us"]), f"{at['asked']:.2f}", f"{at['accuracy']:.4f}",
            f"{at['everyone'] - policy['max_loss']:.4f}", f"{at['learned_asks']:.2f}", f"{at['learned']:.4f}",
        ]
        for at in shown
    ]  # fmt: skip
    columns = ["labels", "time", "asked", "accuracy", "floor", "learned asks", "learned accuracy"]
    told = [said_of_change(change) for change in one["changes"]] or [nothing]
    return [Table(columns, rows, f"{one['output']}: whom to ask, learned from {one['labels']} labels", told)]


def said_of_change(change: Mapping[str, Any]) -> str:
    """A line of what went live."""
    if change["taken_back"]:
        what = "the deployed bandit back"
    elif change["asks_all"]:
        what = "everybody is asked, since the floor was broken"
    else:
        what = "a learned bandit live" + (", since the floor was broken" if change["at_once"] else "")
    gain = f"{change['gain']:+.4f} {UNIT}, over {change['decided_by']} labels"
    return f"{date_of(change['time_us'])}, label {change['labels']}: {what}, {gain}"


def _interval(found: Sequence[float]) -> str:
    mean, least, most = found
    return f"{mean:+.4f}, {least:+.4f} to {most:+.4f}"
