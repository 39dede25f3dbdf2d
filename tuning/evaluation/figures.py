"""The figures of a report: each is an Arrow table and a drawing of it, so that nothing is shown that cannot be read."""

# M members, N rows, C classes

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quorate.fusion.evaluation.diversity import diversity
from quorate.fusion.evaluation.significance import paired_bootstrap
from quorate.tuning.evaluation.row_scores import Answers
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.simplex import solve_log_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Draws of the weights' bootstrap, fewer where one solve takes long.
_RESAMPLES, _FEWER, _LARGE = 100, 20, 1_000_000
_BINS = 10
# More names than this cannot be read along an axis; the table beside the drawing has them all.
_SHOWN_CLASSES = 24


@dataclass(frozen=True)
class Evidence:
    """What figures are made from.

    Attributes:
        names: of the M members that are compared.
        columns: (M, N) their probabilities of the true class on the validation rows.
        members: (M, n) what they say on the held-out rows.
        uniform, tuned: (n,) what their uniform mean says, and the answer under judgement.
        labels: (n,) of the held-out rows.
        best_member: the best single one, chosen on the validation rows.
        classes: names.
    """

    names: Sequence[str]
    columns: Floats
    members: Answers
    uniform: Answers
    tuned: Answers
    labels: NDArray[np.int64]
    best_member: str
    classes: Sequence[str]

    @property
    def best(self) -> Answers:
        return self.members[list(self.names).index(self.best_member)]


@dataclass(frozen=True)
class Figure:
    """One figure; ``draw`` reads nothing but the table's columns."""

    name: str
    title: str
    caption: str
    table: pa.Table
    draw: Callable[[Axes, Mapping[str, list[Any]]], None]

    def svg(self) -> str:
        """The drawing as an SVG element for a page: no declaration, no reference to anything outside."""
        import matplotlib
        from matplotlib.figure import Figure as Canvas

        with matplotlib.rc_context({"svg.hashsalt": self.name, "svg.fonttype": "none", "font.family": "sans-serif"}):
            canvas = Canvas(figsize=(6.4, 3.6), layout="constrained")
            self.draw(canvas.add_subplot(), self.table.to_pydict())
            file = io.StringIO()
            canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        text = file.getvalue()
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
        return re.sub(r'id="|url\(#|xlink:href="#', lambda match: f"{match[0]}{self.name}-", text)


def weights(evidence: Evidence, seed: int = 0) -> Figure:
    """Weights solved on the validation rows, and how far they move when the rows are drawn anew."""
    columns = evidence.columns
    random = np.random.default_rng(seed)
    rows = columns.shape[1]
    draws = _RESAMPLES if columns.size < _LARGE else _FEWER
    drawn = np.array([solve_log_loss(columns[:, random.integers(0, rows, rows)]) for _ in range(draws)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    table = pa.table({"member": list(evidence.names), "weight": solve_log_loss(columns), "low": low, "high": high})

    def draw(axes: Axes, data: Mapping[str, list[Any]]) -> None:
        weight, low, high = (np.array(data[key]) for key in ("weight", "low", "high"))
        spread = np.abs(np.stack([weight - low, high - weight]))
        axes.barh(data["member"], weight, xerr=spread, capsize=3, color="#4878a8")
        axes.set_xlabel("weight")
        axes.invert_yaxis()

    caption = f"Solved for log-loss on the validation rows; bars span 95 % of {draws} draws of as many rows."
    return Figure("weights", "Weights", caption, table, draw)


def calibration(evidence: Evidence) -> Figure:
    """Confidence against accuracy in equal bins of confidence, on held-out rows."""
    answers = {evidence.best_member: evidence.best, "uniform mean": evidence.uniform, "tuned": evidence.tuned}
    rows: dict[str, list[Any]] = {"answer": [], "confidence": [], "accuracy": [], "rows": []}
    for name, answer in answers.items():
        confidence, right = answer.confidence, answer.decided == evidence.labels
        bins = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
        for one in np.unique(bins):
            inside = bins == one
            for key, value in (
                ("answer", name),
                ("confidence", float(confidence[inside].mean())),
                ("accuracy", float(right[inside].mean())),
                ("rows", int(inside.sum())),
            ):
                rows[key].append(value)

    def draw(axes: Axes, data: Mapping[str, list[Any]]) -> None:
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":")
        for name in dict.fromkeys(data["answer"]):
            points = [i for i, answer in enumerate(data["answer"]) if answer == name]
            axes.plot(
                [data["confidence"][i] for i in points], [data["accuracy"][i] for i in points], marker="o", label=name
            )
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        axes.legend()

    caption = "Held-out rows in bins of their confidence; on the dotted line the confidence is right."
    return Figure("calibration", "Calibration", caption, pa.table(rows), draw)


def class_gains(evidence: Evidence) -> Figure:
    """How much lower the log-loss of each class's rows is than the best single member's."""
    single, tuned = -np.log(evidence.best.right), -np.log(evidence.tuned.right)
    rows: dict[str, list[Any]] = {"class": [], "gain": [], "low": [], "high": [], "rows": []}
    for index, name in enumerate(evidence.classes):
        inside = evidence.labels == index
        if inside.sum() < 2:
            continue
        found = paired_bootstrap(single[inside], tuned[inside])
        row = (name, found.difference, found.low, found.high, int(inside.sum()))
        for key, value in zip(rows, row, strict=True):
            rows[key].append(value)

    def draw(axes: Axes, data: Mapping[str, list[Any]]) -> None:
        shown = _ends(data["gain"])
        gain, low, high = (np.array(data[key])[shown] for key in ("gain", "low", "high"))
        axes.axhline(0, color="#bbbbbb")
        spread = np.abs(np.stack([gain - low, high - gain]))
        axes.errorbar(np.arange(len(gain)), gain, yerr=spread, fmt="o", capsize=3, color="#4878a8")
        names = [data["class"][index] for index in shown]
        axes.set_xticks(np.arange(len(gain)), names, rotation=90 if len(gain) > 12 else 0)
        axes.set_ylabel("gain, nats per row")

    caption = f"Log-loss below {evidence.best_member}'s on held-out rows of each class, with 95 % intervals."
    if len(rows["class"]) > _SHOWN_CLASSES:
        caption += f" The {_SHOWN_CLASSES} classes of {len(rows['class'])} that lose or gain most."
    return Figure("class_gains", "Gain by class", caption, pa.table(rows), draw)


def _ends(gains: Sequence[float]) -> list[int]:
    """Which classes are drawn: all, or of many those at both ends, the most lost first."""
    if len(gains) <= _SHOWN_CLASSES:
        return list(range(len(gains)))
    order = np.argsort(gains, kind="stable").tolist()
    return [*order[: _SHOWN_CLASSES // 2], *order[-_SHOWN_CLASSES // 2 :]]


def disagreement(evidence: Evidence) -> Figure:
    """Share of held-out rows on which exactly one of two members is right."""
    correct = evidence.members.decided == evidence.labels
    matrix = diversity(correct).disagreement
    names = list(evidence.names)
    table = pa.table(
        {
            "first": np.repeat(names, len(names)),
            "second": np.tile(names, len(names)),
            "disagreement": matrix.ravel(),
        }
    )

    def draw(axes: Axes, data: Mapping[str, list[Any]]) -> None:
        size = len(names)
        square = np.array(data["disagreement"]).reshape(size, size)
        axes.figure.colorbar(axes.imshow(square, cmap="viridis"), ax=axes)
        axes.set_xticks(np.arange(size), names, rotation=45, ha="right")
        axes.set_yticks(np.arange(size), names)

    caption = "Share of held-out rows on which exactly one of two members is right: what fusion can win on."
    return Figure("diversity", "Diversity", caption, table, draw)


def pareto_front(trials: Sequence[Mapping[str, Any]], objectives: Sequence[str], front: Sequence[int]) -> Figure:
    """All structures by their first two objectives; those that none betters are joined."""
    first, second = objectives[0], objectives[1] if len(objectives) > 1 else "p95_latency_s"
    rows = {
        "trial": [trial["number"] for trial in trials],
        first: [trial["values"][first] for trial in trials],
        second: [trial["values"][second] for trial in trials],
        "topology": [trial["topology"] for trial in trials],
        "on_front": [trial["number"] in front for trial in trials],
    }

    def draw(axes: Axes, data: Mapping[str, list[Any]]) -> None:
        for topology in sorted(set(data["topology"])):
            points = [i for i, name in enumerate(data["topology"]) if name == topology]
            axes.scatter(
                [data[second][i] for i in points], [data[first][i] for i in points], s=14, label=topology, alpha=0.6
            )
        best = sorted((x, y) for x, y, on in zip(data[second], data[first], data["on_front"], strict=True) if on)
        axes.plot([x for x, _ in best], [y for _, y in best], color="black", marker="o", fillstyle="none")
        axes.set_xscale("log")
        axes.set_xlabel(second)
        axes.set_ylabel(first)
        axes.legend()

    caption = "Every structure tried, on validation rows; the line joins those that none betters in both."
    return Figure("pareto", "Pareto front", caption, pa.table(rows), draw)


def learning_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Log-loss of each trained member by epoch, on the rows that tell it when to stop."""
    rows: dict[str, list[Any]] = {"member": [], "epoch": [], "train_log_loss": [], "stopping_log_loss": []}
    for name, history in histories.items():
        for epoch in history:
            row = (name, epoch["number"], epoch["train_log_loss"], epoch["validation_log_loss"])
            for key, value in zip(rows, row, strict=True):
                rows[key].append(value)

    def draw(axes: Axes, data: Mapping[str, list[Any]]) -> None:
        for name in dict.fromkeys(data["member"]):
            points = [i for i, member in enumerate(data["member"]) if member == name]
            losses = [data["stopping_log_loss"][i] for i in points]
            axes.plot([data["epoch"][i] for i in points], [np.nan if x is None else x for x in losses], label=name)
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_ylabel("log-loss")
        if len(histories) <= 12:
            axes.legend(fontsize="small")

    caption = "Log-loss of each member on the rows that tell it when to stop; one that ends early was behind at a rung."
    return Figure("learning_curves", "Learning curves", caption, pa.table(rows), draw)


def comparison(evidence: Evidence) -> list[Figure]:
    """The figures of any run: weights, calibration, gain by class, diversity."""
    return [weights(evidence), calibration(evidence), class_gains(evidence), disagreement(evidence)]
