"""What was measured, as Markdown and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from load import Closed

# By system, wire and clients: one for each round.
Measured = Mapping[tuple[str, str, int], Sequence[Closed]]
Figure = Callable[[Closed], float]
Column = tuple[str, str, str, int, Figure]  # title, unit, wire ("" for the system's own), clients, figure


def latency(wire: str, clients: int) -> Column:
    return f"p50 at {_clients(clients)}", " ms", wire, clients, lambda closed: closed.p50_ms


def rate(wire: str, clients: int) -> Column:
    return f"rate at {_clients(clients)}", " /s", wire, clients, lambda closed: closed.rate


def cpu(wire: str, clients: int) -> Column:
    return f"CPU s for 1,000 at {_clients(clients)}", "", wire, clients, lambda closed: closed.cpu_s


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median (min - max)."""
    low, middle, high = (
        f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle}{unit} ({low} - {high})"


def table(found: Measured, systems: Mapping[str, str], columns: Sequence[Column]) -> str:
    """Figures of each system.

    Args:
        systems: the wire of each that is asked over its own.
    """
    lines = _head("system", [*(column[0] for column in columns), "errors"])
    for name, own in systems.items():
        cells = [
            _cell(found.get((name, wire or own, clients)), figure, unit) for _, unit, wire, clients, figure in columns
        ]
        errors = sum(one.errors for (system, *_), runs in found.items() if system == name for one in runs)
        lines.append(_row(name, [*cells, str(errors)]))
    return "\n".join(lines)


def ratios(found: Measured, ours: str, systems: Mapping[str, str], columns: Sequence[Column]) -> str:
    """Ours over each other's, taken round by round; ``systems`` as of ``table``."""
    lines = _head(f"{ours} against", [column[0] for column in columns])
    for name, own in systems.items():
        if name != ours:
            both = [
                (found.get((ours, w or systems[ours], c)), found.get((name, w or own, c))) for _, _, w, c, _ in columns
            ]
            lines.append(_row(name, [_ratio(*pair, column[4]) for pair, column in zip(both, columns, strict=True)]))
    return "\n".join(lines)


def ratio(found: Measured, one: str, other: str, columns: Sequence[Column]) -> str:
    """One over the other, of wires that the columns name."""
    cells = [_ratio(found.get((one, w, c)), found.get((other, w, c)), figure) for _, _, w, c, figure in columns]
    return "\n".join([*_head(f"{one} against", [column[0] for column in columns]), _row(other, cells)])


def write_medians(file: Path, found: Measured, systems: Mapping[str, tuple[str, str]]) -> None:
    """Of each system, by its key: ``p50_1_ms``, ``rate_8`` and ``rate_64``.

    Args:
        systems: the name and the wire of each key.
    """
    figures = {
        key: {
            "p50_1_ms": statistics.median(one.p50_ms for one in found[name, wire, 1]),
            **{f"rate_{c}": statistics.median(one.rate for one in found[name, wire, c]) for c in (8, 64)},
        }
        for key, (name, wire) in systems.items()
    }
    file.write_text(json.dumps(figures, indent=2) + "\n")


def _clients(number: int) -> str:
    return f"{number} client{'s' if number > 1 else ''}"


def _cell(runs: Sequence[Closed] | None, figure: Figure, unit: str) -> str:
    return spread([figure(one) for one in runs], unit) if runs else "-"


def _ratio(mine: Sequence[Closed] | None, theirs: Sequence[Closed] | None, figure: Figure) -> str:
    both = [(figure(a), figure(b)) for a, b in zip(mine or (), theirs or (), strict=True)] if mine and theirs else []
    return spread([a / b for a, b in both], "x") if both and all(b > 0 for _, b in both) else "-"


def _head(first: str, titles: Sequence[str]) -> list[str]:
    return [_row(first, titles), "|---" * (len(titles) + 1) + "|"]


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"
