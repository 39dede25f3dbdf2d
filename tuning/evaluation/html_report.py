"""One page that shows a run: verdict, tables, figures. It fetches nothing; what it draws lies beside it in Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pyarrow import feather

from quorate.deployments.atomic_files import write_whole
from quorate.fusion.errors import MissingExtraError
from quorate.fusion.extras import require
from quorate.tuning.evaluation.figures import Figure
from quorate.tuning.evaluation.verdict import Choice

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em }
.verdict { font-size: 1.15em; padding: .8em 1em; border-left: 4px solid #4878a8; background: #f3f6f9 }
.table { overflow-x: auto } table { border-collapse: collapse }
td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td:first-child, th:first-child { text-align: left }
figure { margin: 1em 0 } figcaption { color: #666; font-size: .9em } svg { max-width: 100%; height: auto }
"""

Rows = Sequence[Mapping[str, Any]]


def write_page(folder: Path, title: str, verdict: str, tables: Mapping[str, Rows], figures: Sequence[Figure]) -> Path:
    """Write ``report.html`` and ``figures/NAME.arrow``.

    Args:
        folder: the run's.
        title, verdict: what it is, and what follows from it.
        tables: heading -> rows, each with the same keys.
        figures: in their order.
    """
    (folder / "figures").mkdir(exist_ok=True)
    for figure in figures:
        feather.write_feather(figure.table, folder / "figures" / f"{figure.name}.arrow", compression="uncompressed")
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="verdict">{escape(verdict)}</p>']
    parts += [f"<h2>{escape(heading)}</h2>{_table(rows)}" for heading, rows in tables.items() if rows]
    parts += [
        f"<h2>{escape(figure.title)}</h2><figure>{_drawing(figure)}<figcaption>{escape(figure.caption)} "
        f"Data: figures/{figure.name}.arrow</figcaption></figure>"
        for figure in figures
    ]
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    page += f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    path = folder / "report.html"
    write_whole(path, page.encode())
    return path


def _drawing(figure: Figure) -> str:
    """The figure, or how it would have been drawn: a run must not fail at its last page."""
    try:
        require("report", "this drawing")
    except MissingExtraError as error:
        return f"<p>{escape(str(error))}</p>"
    return figure.svg()


def choice_rows(choice: Choice) -> Rows:
    """Every alternative on the held-out rows."""
    return [
        {
            "": f"{name} (recommended)" if name == choice.recommended else name,
            "members": one.members,
            choice.metric: one.value,
            "from": one.low,
            "to": one.high,
            "cross-validated": one.cross_validated,
            f"gain of {choice.recommended}": one.gain.difference,
            "gain from": one.gain.low,
            "gain to": one.gain.high,
        }
        for name, one in choice.alternatives.items()
    ]


def _table(rows: Rows) -> str:
    head = "".join(f"<th>{escape(str(key))}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_text(value))}</td>" for value in row.values()) + "</tr>" for row in rows
    )
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
