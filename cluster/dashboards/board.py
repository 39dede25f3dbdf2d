"""What a Grafana board is made of here: panels in sections, and what can be chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """One expression of a panel.

    Attributes:
        text: in PromQL, with Grafana's variables.
        legend: of each line, with labels in braces.
    """

    text: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        says: what to read from it, shown at its corner.
        unit: Grafana's name of it.
        kind: Grafana's type of panel.
        most: where the axis ends; where the data say when None.
    """

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    most: float | None = None


@dataclass(frozen=True)
class Section:
    """A row of panels."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Choice:
    """What the reader chooses: the values of a label."""

    name: str
    of_metric: str


@dataclass(frozen=True)
class Board:
    """A dashboard; ``name`` is also that of its file."""

    name: str
    title: str
    choices: tuple[Choice, ...]
    sections: tuple[Section, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, in order."""
        return tuple(panel for section in self.sections for panel in section.panels)
