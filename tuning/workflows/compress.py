"""Make an ensemble cheaper: one distilled student, members in fewer bits, members of one start averaged into one.

Every candidate is an ensemble of its own: its members are run, its weights are solved anew, and it is judged against
the ensemble it came from on the same held-out rows. Entry point::

    result = compress(spec, Path("."), splits.train, splits.validation, splits.test, student={"family": "mlp"})
    result.candidates["student"].log_loss_lost, result.pick, result.folder
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from quorate.deployments.display import Displayed, Table
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.errors import MergeError
from quorate.fusion.evaluation.significance import Interval, paired_bootstrap
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.spec_fusion import with_recipe
from quorate.tuning.architectures.precision import parameter_bytes
from quorate.tuning.data.labelled import Labelled, check_labelled
from quorate.tuning.errors import ArchitectureError
from quorate.tuning.evaluation.verdict import signed, span
from quorate.tuning.latency.curves import chain_s, measure, parallel_s
from quorate.tuning.predictions.answered_rows import answered_by_all, usable_rows
from quorate.tuning.predictions.run_member import Runner, run_in_process, tunable_members
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.runs.probe import save_probe
from quorate.tuning.runs.run_folder import SPEC, new_run_folder, save_deployable, save_report
from quorate.tuning.scoring import Floats, true_class
from quorate.tuning.search.members.formats import missing_library
from quorate.tuning.solvers.simplex import simplex_weights
from quorate.tuning.training.compression_candidates import in_format, with_soups, with_student
from quorate.tuning.training.distillation import Distillation, distil

BATCHES = (1, 64)


@dataclass(frozen=True)
class Candidate:
    """One way to serve the ensemble, judged on held-out rows.

    Attributes:
        weights: of its members, solved anew.
        log_loss: nats per row.
        log_loss_lost: how much higher than the ensemble's, with a 95 % interval; below 0 it is better.
        accuracy_lost: how much lower than the ensemble's, with a 95 % interval.
        bytes: of all members' parameters in memory.
        latency_ms: of the slowest member, by rows in the batch: members run side by side.
        compute_ms: of all members together.
        spec: deployable from ``folder``.
    """

    weights: Mapping[str, float]
    log_loss: float
    accuracy: float
    log_loss_lost: Interval
    accuracy_lost: Interval
    bytes: int
    latency_ms: Mapping[int, float]
    compute_ms: Mapping[int, float]
    spec: EnsembleSpec = field(repr=False)
    folder: Path = field(repr=False)


@dataclass(frozen=True, repr=False)
class Compression(Displayed):
    """What compressing gave.

    Attributes:
        candidates: by name; "ensemble" is the one it started from.
        skipped: candidates that could not be made -> why.
        pick: the fewest bytes among those whose log-loss is higher by at most ``tolerance``, with 97.5 % certainty.
        folder: holds a deployable folder per candidate, and report.json.
    """

    ensemble: str
    candidates: Mapping[str, Candidate]
    skipped: Mapping[str, str]
    pick: str
    tolerance: float
    folder: Path

    @property
    def deployable(self) -> Path:
        """The spec file of the pick."""
        return self.candidates[self.pick].folder / SPEC

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON would hold it."""
        shown = {
            name: {key: value for key, value in asdict(one).items() if key not in ("spec", "folder")}
            for name, one in self.candidates.items()
        }
        rest = {"skipped": dict(self.skipped), "pick": self.pick, "tolerance": self.tolerance}
        return {"ensemble": self.ensemble, "candidates": shown, **rest}

    def tables(self) -> Sequence[Table]:
        """The candidates, what each loses and saves, and what to do next."""
        return [self.table(f"quorate deploy {self.deployable}")]

    def table(self, *more: str, title: str = "") -> Table:
        """The same as one table; further lines stand below it."""
        columns = ("", "log-loss", "lost, nats per row", "accuracy", "lost", "KiB", "ms at 1 row", "at 64")
        rows = [
            (
                name,
                f"{one.log_loss:.4f}",
                _lost(one.log_loss_lost),
                f"{one.accuracy:.4f}",
                _lost(one.accuracy_lost),
                f"{one.bytes / 1024:.1f}",
                *(f"{one.latency_ms[batch]:.2f}" if batch in one.latency_ms else "" for batch in BATCHES),
            )
            for name, one in self.candidates.items()
        ]
        lines = [f"no {name}: {why}" for name, why in self.skipped.items()]
        lines.append(f"smallest that loses at most {self.tolerance:g} nats: {self.pick}")
        return Table(columns, rows, title, [*lines, *more])


def _lost(found: Interval) -> str:
    return f"{signed(found.difference)} ({span(found)})"


def compress(
    spec: EnsembleSpec, folder: Path, training: Labelled, validation: Labelled, held_out: Labelled, *,
    student: Mapping[str, Any] | None = None, how: Distillation | None = None, called: str = "student",
    tolerance: float = 0.01, runs: Path | str = "runs", run: Runner = run_in_process,
    on_step: Callable[[str], None] | None = None,
) -> Compression:  # fmt: skip
    """Distil, quantise and average, and report what each loses and saves.

    Args:
        spec: the ensemble; its members give class probabilities and read the request alone.
        folder: what the spec's paths start from.
        training: rows that the student learns from; the teacher's probabilities of them are stored.
        validation: other rows; weights are solved on them, and they decide when the student stops.
        held_out: yet other rows, to judge on.
        student: config of the student; no student when left out.
        how: temperature, alpha and training of the student.
        called: the student, as a member.
        tolerance: nats per row that a smaller ensemble may lose.
        runs: where the run's folder is made.
        run: runs one member over rows.
        on_step: told what happens next, for progress.

    Raises:
        TuningError: the ensemble has members that give no class probabilities.
        ArchitectureError, DataError: the student cannot be built, or not trained on these rows.
        PredictionError, MemberLoadError: a member cannot be run.
    """
    say = on_step or (lambda step: None)
    for rows, data in (("training", training), ("validation", validation), ("held-out", held_out)):
        check_labelled(rows, data)
    where = new_run_folder(runs, f"{spec.name}-compressed")
    judge = _Judge(validation, held_out, where, run)
    say("judging the ensemble")
    made = {"ensemble": judge.candidate("ensemble", spec, folder)}
    ways: dict[str, Callable[[], EnsembleSpec]] = {
        "bf16": lambda: in_format(spec, "bf16"),
        "int8": lambda: in_format(spec, "int8"),
        "soup": lambda: with_soups(spec, folder, training, validation, where / "soups"),
    }
    tried, skipped = _try(ways, judge, folder, say)
    made |= tried
    if student is not None:
        say("running the teacher on the training rows")
        teacher = judge.fused("training", spec, folder, training, made["ensemble"].weights)
        say("training the student")
        made["student"] = judge.candidate(
            "student", _distilled(spec, student, judge, training, teacher, how, called), folder
        )
    pick = min(
        (name for name, one in made.items() if one.log_loss_lost.high <= tolerance or name == "ensemble"),
        key=lambda name: made[name].bytes,
    )
    result = Compression(spec.name, made, skipped, pick, tolerance, where)
    save_report(result.to_dict(), where)
    return result


def _try(
    ways: Mapping[str, Callable[[], EnsembleSpec]], judge: _Judge, folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """The candidates that could be made, and why the others could not."""
    made, skipped = {}, {}
    for name, way in ways.items():
        if missing := missing_library(name):
            skipped[name] = missing
            continue
        say(f"trying {name}")
        try:
            made[name] = judge.candidate(name, way(), folder)
        except (MergeError, ArchitectureError) as error:
            skipped[name] = str(error)
    return made, skipped


def _distilled(
    spec: EnsembleSpec,
    student: Mapping[str, Any],
    judge: _Judge,
    training: Labelled,
    teacher: Floats,
    how: Distillation | None,
    called: str,
) -> EnsembleSpec:
    config = _whole(student, spec, training)
    trained = distil(config, _read_by(spec, training), teacher, _read_by(spec, judge.validation), how)
    return with_student(spec, config, trained, judge.where / "student", called)


class _Judge:
    """Solves and judges candidates on the same rows."""

    def __init__(self, validation: Labelled, held_out: Labelled, where: Path, run: Runner):
        self.validation, self.held_out, self.where, self.run = validation, held_out, where, run
        self.store = PredictionStore(where / "predictions")
        self.ensemble: Floats | None = None  # (N, C) its fused held-out rows

    def candidate(self, name: str, spec: EnsembleSpec, source: Path) -> Candidate:
        names = tunable_members(spec)
        split = f"{name}-validation"
        self.store.fill(spec, source, self.validation, split, run=self.run)
        usable = usable_rows(names, self.store.read(split, names), self.validation.labels)
        values = simplex_weights(usable.probs, usable.labels).values.tolist()
        weights = dict(zip(names, values, strict=True))
        fused = self.fused(f"{name}-held-out", spec, source, self.held_out, weights)
        self.ensemble = fused if self.ensemble is None else self.ensemble
        folder = self.where / "candidates" / name
        folder.mkdir(parents=True)
        pool = Recipe("weighted_mean", names, weights)
        written = save_deployable(with_recipe(spec, pool, folder, name), source, folder)
        answered = answered_by_all([fused])
        save_probe(folder, written, self.held_out, answered, fused[answered])
        return self._judged(written, folder, weights, fused)

    def fused(
        self, split: str, spec: EnsembleSpec, source: Path, data: Labelled, weights: Mapping[str, float]
    ) -> Floats:
        """(N, C) the members' weighted mean; NaN in rows that one of them failed on."""
        self.store.fill(spec, source, data, split, run=self.run)
        outputs = self.store.read(split, list(weights))
        return np.asarray(sum(w * o.astype(np.float64) for w, o in zip(weights.values(), outputs, strict=True)))

    def _judged(self, spec: EnsembleSpec, folder: Path, weights: Mapping[str, float], fused: Floats) -> Candidate:
        assert self.ensemble is not None
        labels = self.held_out.labels
        rows = np.flatnonzero(np.isfinite(fused).all(axis=1) & np.isfinite(self.ensemble).all(axis=1))
        losses, before = -np.log(true_class(np.stack([fused[rows], self.ensemble[rows]]), labels[rows]))
        right, was = ((one[rows].argmax(axis=1) == labels[rows]).astype(float) for one in (fused, self.ensemble))
        jobs = [spec.job(name) for name in weights]
        curves = [measure(job, folder, self.held_out.inputs) for job in jobs]
        return Candidate(
            weights=weights,
            log_loss=float(losses.mean()),
            accuracy=float(right.mean()),
            log_loss_lost=paired_bootstrap(losses, before),
            accuracy_lost=paired_bootstrap(was, right),
            bytes=sum(_member_bytes(job.name, spec, folder) for job in jobs),
            latency_ms={n: 1e3 * parallel_s(c.p50_s[n] for c in curves) for n in BATCHES if n in curves[0].p50_s},
            compute_ms={n: 1e3 * chain_s(c.p50_s[n] for c in curves) for n in BATCHES if n in curves[0].p50_s},
            spec=spec,
            folder=folder,
        )


def _member_bytes(name: str, spec: EnsembleSpec, folder: Path) -> int:
    """Of a module its parameters, of anything else the file it is loaded from."""
    member = spec.members[name]
    module = load_model(name, member, folder).module
    path = folder / (member.weights or member.model)
    return parameter_bytes(module) if module is not None else path.stat().st_size if path.is_file() else 0


def _read_by(spec: EnsembleSpec, data: Labelled) -> Labelled:
    """The rows with nothing but what the student will read: the inputs of the fusion's first member."""
    inputs = spec.members[spec.output_fusion.members[0]].inputs
    return Labelled({name: data.inputs[name] for name in inputs}, data.labels, data.classes)


def _whole(config: Mapping[str, Any], spec: EnsembleSpec, data: Labelled) -> dict[str, Any]:
    """The student's config with the image's shape and the number of classes, as a spec needs it."""
    (image,) = _read_by(spec, data).inputs.values()
    return {"image": list(image.shape[1:]), "classes": len(data.classes), **config}
