"""Boards in Grafana's JSON, to be imported or provisioned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quorate.cluster.dashboards.board import Board, Choice, Panel, Section

# Of Grafana 10, which later ones read.
SCHEMA_VERSION = 39
_WIDTH, _HEIGHT, _A_ROW = 8, 8, 3
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def grafana_json(board: Board) -> dict[str, Any]:
    """One dashboard."""
    panels: list[dict[str, Any]] = []
    y = 0
    for section in board.sections:
        placed = list(_placed(section, y, len(panels)))
        y = placed[-1]["gridPos"]["y"] + _HEIGHT
        panels += placed
    return {
        "uid": board.name,
        "title": board.title,
        "tags": ["quorate"],
        "schemaVersion": SCHEMA_VERSION,
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), *map(_variable, board.choices)]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _placed(section: Section, y: int, before: int) -> Iterable[dict[str, Any]]:
    """The section's title and its panels, three side by side."""
    at = {"h": 1, "w": _A_ROW * _WIDTH, "x": 0, "y": y}
    yield {"id": before + 1, "type": "row", "title": section.title, "collapsed": False, "gridPos": at, "panels": []}
    for i, panel in enumerate(section.panels):
        at = {"h": _HEIGHT, "w": _WIDTH, "x": i % _A_ROW * _WIDTH, "y": y + 1 + i // _A_ROW * _HEIGHT}
        yield {"id": before + 2 + i, "gridPos": at, **_panel(panel)}


def _panel(panel: Panel) -> dict[str, Any]:
    heatmap = panel.kind == "heatmap"
    limits = {"min": 0, **({} if panel.most is None else {"max": panel.most})}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, **limits}, "overrides": []},
        "options": {"calculate": False, "yAxis": {"unit": panel.unit}} if heatmap else {},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": _SOURCE,
                "expr": query.text,
                "legendFormat": query.legend,
                "format": "heatmap" if heatmap else "time_series",
                "exemplar": "quorate_request_seconds_bucket" in query.text,
            }
            for i, query in enumerate(panel.queries)
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(choice: Choice) -> dict[str, Any]:
    asked = f"label_values({choice.of_metric}, {choice.name})"
    return {
        "name": choice.name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": asked, "refId": choice.name},
        "definition": asked,
        "refresh": 2,  # whenever the range of time changes
        "includeAll": True,
        "allValue": ".+",
        "multi": True,
        "sort": 1,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
