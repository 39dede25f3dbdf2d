"""The expressions of boards and rules, and programs of Prometheus."""

import shutil
from pathlib import Path

from quorate.cluster.dashboards.rules import ALERTS, RECORDS
from quorate.cluster.operations.exports.dashboards import BOARDS

ROOT = Path(__file__).parents[3]
WHERE = "no Prometheus here: apt-get install prometheus, or make test-prometheus"


def panel_expressions():
    """Of every panel."""
    return [query.text for board in BOARDS for panel in board.panels for query in panel.queries]


def expressions():
    """Of panels, records and alerts."""
    return [*panel_expressions(), *RECORDS.values(), *(alert.when for alert in ALERTS)]


def filled(text, rate_interval="1m"):
    """An expression with Grafana's variables as All."""
    for choice in ("ensemble", "member", "job"):
        text = text.replace(f"${choice}", ".+")
    return text.replace("$__rate_interval", rate_interval)


def program(name):
    """Where ``prometheus`` or ``promtool`` is; None where it is not."""
    found = shutil.which(name, path=str(ROOT / ".venv-prometheus" / "usr" / "bin"))
    return found or shutil.which(name)
