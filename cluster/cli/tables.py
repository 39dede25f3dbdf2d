"""What the commands print for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table

from quorate.deployments.client.client import Result
from quorate.deployments.control.placement import Placed
from quorate.deployments.spec.ensemble import EnsembleSpec

if TYPE_CHECKING:
    from quorate.deployments.client.load_test import BenchResult
    from quorate.tuning import DecisionResult, Promotion, TuneResult

SHOWN_ROWS = 20


def placed(places: Sequence[Placed]) -> Table:
    table = Table("member", "replica", "node", "GPU", "problem")
    for place in places:
        table.add_row(place.member, str(place.replica), place.node, place.gpu, place.problem)
    return table


def promoted(done: Promotion) -> str:
    """What is live now, and how that was made sure of."""
    lines = [
        f"{done.name} answers with revision {done.revision}; quorate rollback {done.name} goes back to {done.previous}",
        f"{done.probe_rows} probe rows answered as in the run, to {done.largest_difference:.1g}",
    ]
    if done.canary is not None:
        rates, medians = done.canary.error_rates, done.canary.median_s
        lines.append(
            f"canary: {done.canary.answers} requests, errors {rates[1]:.2%} (before {rates[0]:.2%}), "
            f"median {1e3 * medians[1]:.1f} ms (before {1e3 * medians[0]:.1f} ms)"
        )
    return "\n".join(lines)


def answers(result: Result, spec: EnsembleSpec | None) -> Group:
    """The likeliest class of each row, and the answer's account of itself."""
    name, values = next(iter(result.outputs.items()))
    classes = spec.classes if spec is not None and spec.classes else None
    table = Table("row", name, "value")
    for row, scores in enumerate(values[:SHOWN_ROWS].reshape(len(values[:SHOWN_ROWS]), -1)):
        best = int(scores.argmax())
        label = classes[best] if classes and len(classes) == len(scores) else str(best)
        table.add_row(str(row), label, f"{scores[best]:.4f}")
    if len(values) > SHOWN_ROWS:
        table.add_row("...", f"{len(values) - SHOWN_ROWS} more", "--json has all")
    lines = [f"{key}: {value}" for key, value in result.parameters.items() if value != ""]
    return Group(table, *lines)


def tuned(result: TuneResult) -> Group:
    """Members, uniform mean and tuned weights on held-out rows, and what follows from it."""
    table = Table("", "weight", "accuracy", "macro F1", "log-loss")
    judgement = result.judgement
    scores = {**judgement.members, "uniform mean": judgement.uniform, "tuned": judgement.tuned}
    for name, score in scores.items():
        weight = f"{result.weights[name]:.3f}" if name in result.weights else ""
        table.add_row(name, weight, f"{score.accuracy:.4f}", f"{score.f1_macro:.4f}", f"{score.log_loss:.4f}")
    lines = [
        f"{judgement.rows} held-out rows; weights by {result.method}, at most {result.gap:.1e} nats from the best",
        f"weights of their own for {len(result.patterns)} sets of members that may be left when others are missing",
        judgement.verdict,
        f"quorate deploy {result.folder / 'spec.yaml'}",
    ]
    return Group(table, *lines)


def decided(result: DecisionResult) -> Group:
    """Best member, uniform mean and tuned decisions on held-out rows, and what follows from it."""
    gain = result.gain
    table = Table("", gain.metric)
    for name, score in ((gain.best_member, gain.best), ("uniform mean", gain.uniform), ("tuned", gain.tuned)):
        table.add_row(name, f"{score:.4f}")
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in result.weights.items())
    biases = "with biases by class" if result.method == "decisions" else "without biases: they did no better"
    lines = [f"{gain.rows} held-out rows; {weights}, {biases}", gain.verdict]
    return Group(table, *lines, f"quorate deploy {result.folder / 'spec.yaml'}")


def bench(result: BenchResult) -> str:
    offered = "" if result.offered_rate is None else f" of {result.offered_rate:g}/s offered"
    lines = [
        f"{result.rate:.0f} answers/s{offered} to {result.clients} clients in {result.duration_s:.1f} s",
        f"ms: p50 {result.p50_ms:.2f}  p90 {result.p90_ms:.2f}  p99 {result.p99_ms:.2f}  max {result.max_ms:.2f}",
        f"{result.requests} requests, {result.errors} errors, {result.degraded} degraded",
    ]
    return "\n".join([*lines, result.first_error] if result.first_error else lines)


def status(ensembles: Sequence[dict[str, Any]]) -> Group | str:
    if not ensembles:
        return "nothing runs; quorate deploy SPEC starts an ensemble"
    parts: list[Table] = []
    for ensemble in ensembles:
        scheme = "https" if ensemble["tls"] else "http"
        doors = ", ".join(f"{scheme}://{place}" for place in ensemble["http"]) or "no door"
        doors += " by token" if ensemble["token"] else ""
        title = f"{ensemble['name']}  revision {ensemble['revision']}  {doors}"
        table = Table(
            "member", "ready", "replica", "device", "GPU", "queued rows", "busy s", title=title, title_justify="left"
        )
        for member, replicas in ensemble["members"].items():
            ready = str(ensemble["ready"].get(member, 0))
            for replica in replicas or [{}]:
                table.add_row(member, ready, *_replica(replica))
        parts.append(table)
    return Group(*parts)


def _replica(replica: dict[str, Any]) -> tuple[str, ...]:
    if not replica:
        return "none answers", "", "", "", ""
    gpus = ",".join(replica["gpu_ids"])
    return replica["replica"], replica["device"], gpus, str(replica["queued_rows"]), f"{replica['busy_s']:.2f}"
