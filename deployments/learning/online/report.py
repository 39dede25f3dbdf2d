"""What learning online has come to, as it is told: in a few lines for a status, or all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quorate.deployments.display import Table
from quorate.deployments.learning.online.bandit import telling
from quorate.deployments.learning.online.dates import date_of
from quorate.deployments.learning.online.history import said_of_change, tables_of
from quorate.deployments.learning.online.relabelling.report import lines as relabelled_lines

# Of weights, and of bandits.
_LEARNERS = {False: "weights learn", True: "whom to ask is learned"}
_UNITS = {False: "nats a row", True: telling.UNIT}


def read_report(stored: bytes) -> dict[str, Any]:
    """What who learns has written last; empty where nothing has been.

    Returns:
        ``mode``, ``publish_every``, ``revision`` that is live, ``labels`` learned from, ``outputs`` (as
        ``History.to_dict`` gives each, with its ``live_weights``, ``relabelled`` classes (``called_otherwise``), by
        ``live`` what learned and live weights have lost since somebody deployed these, and the ``last`` of its
        standings), ``published`` and ``rolled_back``, how often, ``told`` of the latest of these, ``left_out`` rows by
        why, and ``trouble`` that keeps it from publishing.
    """
    try:
        data = json.loads(stored or b"{}")
        state, report = data["state"], data["report"]
        outputs = [
            {"relabelled": [], **one, "last": one["standings"][-1] if one["standings"] else None}
            for one in report["outputs"]
        ]
        counts = {name: state[name] for name in ("published", "rolled_back", "told")}
    except (KeyError, TypeError, ValueError):  # nothing yet, or what another version wrote
        return {}
    return {**report, "outputs": outputs, **counts}


def brief(report: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was before: how it stands now, and when weights last went live and were taken back."""
    if not report:
        return {}
    outputs = [
        {name: value for name, value in one.items() if name not in ("standings", "weights", "changes")}
        | ({"policy": {**one["policy"], "points": []}} if one.get("policy") else {})
        for one in report["outputs"]
    ]
    latest = {one["taken_back"]: one for one in report["told"]}
    return {**report, "outputs": outputs, "told": sorted(latest.values(), key=lambda one: one["time_us"])}


def at_doors(report: Mapping[str, Any]) -> dict[str, Any]:
    """What doors tell whoever may ask them: of errors, which may name nodes and files, only that there are some.

    Returns:
        As ``read_report``, with the ``left_out_rows`` in all, and whether learned weights ``wait``.
    """
    if not report:
        return {}
    waits, left_out = bool(report["trouble"]), sum(report["left_out"].values())
    told = {name: value for name, value in report.items() if name not in ("trouble", "left_out")}
    return {**told, "waits": waits, "left_out_rows": left_out}


def last_us(report: Mapping[str, Any], taken_back: bool) -> int:
    """When weights last went live by themselves, or were taken back, since 1970; 0 where none have."""
    return max((one["time_us"] for one in report["told"] if one["taken_back"] is taken_back), default=0)


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """How it stands now."""
    if not report:
        return
    what = "in the shadow" if report["mode"] == "shadow" else f"live, at most every {report['publish_every']}"
    yield f"{_learner(report)} {what}: {report['labels']} labels{_went_live(report)}"
    for one in report["outputs"]:
        if one.get("policy"):
            yield telling.said_of(one)
        elif one["last"] is not None:
            yield f"{one['output']}: {_stands(one)}"
        yield from relabelled_lines(one["relabelled"], report["mode"] == "shadow")
    if report["trouble"]:
        yield f"what was learned waits: {report['trouble']}"
    for why, rows in report["left_out"].items():
        yield f"{rows} labelled rows were left out: {why}"


def tables(report: Mapping[str, Any]) -> Sequence[Table]:
    """All of it: regret and weights through time, by output, and what went live."""
    found = []
    for one in report.get("outputs", ()):
        if one.get("policy"):
            found += telling.tables_of(one, _nothing_better(report))
        elif one["standings"]:
            told = [said_of_change(change) for change in one["changes"]]
            found += tables_of(one, told or [_nothing(report, one)])
    if report.get("told"):
        rows = [
            [date_of(one["time_us"]), "taken back" if one["taken_back"] else "published", one["revision"], _gains(one)]
            for one in report["told"]
        ]
        unit = _UNITS[bool(report["told"][-1].get("policies"))]
        found.append(Table(["time", "what", "revision", unit], rows, "what went live by itself"))
    return found


def _learner(report: Mapping[str, Any]) -> str:
    found = {bool(one.get("policy")) for one in report["outputs"]}
    return " and ".join(_LEARNERS[of_bandit] for of_bandit in sorted(found)) or _LEARNERS[False]


def _went_live(report: Mapping[str, Any]) -> str:
    if report["mode"] == "shadow" and not report["told"]:
        return ""
    said = f"; published {report['published']} times, taken back {report['rolled_back']} times"
    for word, back in (("published", False), ("taken back", True)):
        at_us = last_us(report, back)
        said += f", last {word} {date_of(at_us)}" if at_us else ""
    return said


def _stands(one: Mapping[str, Any]) -> str:
    last, live = one["last"], one["live"]
    labels = max(last["labels"], 1)
    said = f"{last['total'] / labels:.4f} {one['loss']} a row"
    if live is not None and live["labels"]:
        both = (f"{word} weights {live[word] / live['labels']:.4f}" for word in ("learned", "live"))
        said += f" ({', '.join(both)} over the {live['labels']:.0f} since these were deployed)"
    rivals = (f"{rival['regret']:+.1f} of at most {rival['bound']:.1f} to {rival['name']}" for rival in last["rivals"])
    return f"{said}; regret {', '.join(rivals)}"


def _nothing(report: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    if one["live_weights"] is None:
        return "nothing of it can go live"
    return f"nothing {_would(report)} live: no weights were shown to be better than the live ones"


def _nothing_better(report: Mapping[str, Any]) -> str:
    return f"nothing {_would(report)} live: nothing better was shown to be so, and to keep the floor"


def _would(report: Mapping[str, Any]) -> str:
    return "would have gone" if report["mode"] == "shadow" else "has gone"


def _gains(told: Mapping[str, Any]) -> str:
    parts = (f"{name} {gain:+.4f} over {told['decided_by'][name]} labels" for name, gain in told["gains"].items())
    return ", ".join(parts)
