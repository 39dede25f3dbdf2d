"""The expressions of boards and rules, and programs of Prometheus."""

import shutil
from pathlib import Path

from quorate.cluster.dashboards.rules import ALERTS, RECORDS
from quorate.cluster.operations.exports.dashboards import BOARDS

ROOT = Path(__file__).parents[3]
WHERE = "no Prometheus here: apt-get install prometheus, or make test-prometheus"

# What learning online has come to, as a door is told it: nothing of it is there before weights learn.
LEARNED = {
    "outputs": [
        {
            "output": "fused", "members": ["a", "b"], "labels": 9,
            "last": {"weights": [0.5, 0.5], "rivals": [{"name": "best member, a", "regret": 1.0, "bound": 2.0}]},
            "relabelled": [{"class": "red", "answered_as": {"blue": 1.0}}],
        },
        {
            "output": "asked", "members": ["a", "b"], "labels": 9, "last": None, "relabelled": [],
            "policy": {"asked": 1.2, "learned_asks": 1.1, "accuracy": 0.9, "learned": 0.9, "everyone": 0.91,
                       "max_loss": 0.02, "gain": [0.01, 0.0, 0.02]},
        },
    ],
    "published": 1, "rolled_back": 1,
    "told": [{"time_us": 1, "taken_back": False}, {"time_us": 2, "taken_back": True}],
}  # fmt: skip


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
