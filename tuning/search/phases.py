"""One sweep from its first member to its last pick; every step reads what an earlier run of the same folder left."""

# M members, N rows, C classes, K columns of the table

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.schema import MemberJob, MemberSpec, Resources
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import PredictionError, SweepError
from quorate.tuning.latency.curves import Curve, Measured, Overhead, load_measured, measure_members
from quorate.tuning.latency.overhead import measure_overhead
from quorate.tuning.predictions.answered_rows import answered_by_all
from quorate.tuning.predictions.run_member import Inputs, run_in_process, tunable_members
from quorate.tuning.predictions.run_on_ray import pick_runner
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.ray_session import ray_session
from quorate.tuning.runs.input_spec import read_input_spec
from quorate.tuning.scoring import member_losses, true_class
from quorate.tuning.search.callbacks import Callbacks
from quorate.tuning.search.generations import Generations, Task
from quorate.tuning.search.journal import Finished, saving
from quorate.tuning.search.members.candidates import choose_candidates
from quorate.tuning.search.members.formats import add_formats, member_bytes
from quorate.tuning.search.members.head_search import HeadSearch
from quorate.tuning.search.members.member_search import MemberSearch, bare_spec, row_shape
from quorate.tuning.search.members.member_trial import MemberTrial
from quorate.tuning.search.pareto import Picker, pareto, spread
from quorate.tuning.search.report import save_result
from quorate.tuning.search.result import SweepResult
from quorate.tuning.search.settings import Progress, RunOptions, Settings
from quorate.tuning.search.structures.latency_check import check_latency
from quorate.tuning.search.structures.structure import Menu
from quorate.tuning.search.structures.structure_search import StructureSearch
from quorate.tuning.search.structures.structure_trial import StructureTrial
from quorate.tuning.search.structures.table import Column, Table
from quorate.tuning.search.workers.trial_runner import Phase, run_trials
from quorate.tuning.search.workers.worker_pool import WorkerPool

# A training that would have less than this share of its time is not worth a start.
_LEAST_SHARE = 0.25
# Late or not: without a structure all that was trained would be for nothing.
_LEAST_STRUCTURES_S = 10.0
_MOST_PICKS = 10
_COSTS = ("p95_latency_s", "device_s_per_request", "memory_bytes")


class SweepRun:
    """The phases of one sweep."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        rows: Mapping[str, Labelled],
        options: RunOptions,
    ):
        self._folder, self._settings, self._rows, self._options = folder, settings, rows, options
        self._tell = options.on_progress or (lambda progress: None)
        self._budget = options.budget
        self._space = settings.space
        self._store = PredictionStore(folder / "predictions")
        self._given = read_input_spec(folder)
        self._seconds: dict[str, float] = {}
        self._complete = True
        self._done = self._rounds_done()
        self._found_heads: HeadSearch | None = None
        self._pool = WorkerPool(options.workers or 2 * settings.parallel, folder)
        self._callbacks = Callbacks(options.callbacks, folder)

    def run(self, given: Measured) -> SweepResult:
        """Go through the phases; what is given is not measured."""
        with ray_session(), self._pool, self._callbacks:
            for number in self._budget.rounds():
                members, trained = self._members(number)
                base = {name: members[name] for name in self._candidates(members)}
                heads = self._heads(base)
                with self._budget.rest():
                    picker, structures = self._structures(number, base, heads, given)
            with self._timed("picks"):
                front = spread(pareto(structures, self._settings.objectives), _MOST_PICKS)
                picks = tuple(picker.pick(place, trial) for place, trial in enumerate(front))
            with self._timed("latency"):
                inputs, call = self._rows["validation"].inputs, self._pool.call
                checks = {
                    str(place): check_latency(pick.structure, pick.spec, pick.folder, picker.table, inputs, call)
                    for place, pick in enumerate(picks[: self._options.check])
                }
        with self._timed("report"):
            result = SweepResult(
                self._folder, picks, tuple(structures), tuple(trained), self._settings.objectives, self._complete,
                self._seconds, checks,
            )  # fmt: skip
            with saving(self._folder):
                save_result(result, picker, self._rows["validation"].classes)
        return result

    def _members(self, number: int) -> tuple[dict[str, MemberSpec], list[Finished]]:
        """Candidates by name after so many rounds: those given, then those trained."""
        self._complete = True
        members: dict[str, MemberSpec] = {}
        with self._timed("members"):
            if self._given is not None:
                members = self._fill_given(self._given)
            if not self._settings.member_trials:
                if not members:
                    raise SweepError("members", "none is given and none is trained", "give a spec, or member_trials")
                return members, []
            search = self._member_search(members, (self._done + number) * self._settings.member_trials)
            again = set(members) & set(search.members)
            if again:
                raise SweepError("members", f"{', '.join(sorted(again))} is a name of both", "rename the given one")
            data = {name: self._rows[name] for name in ("train", "stopping", "validation", "held-out")}
            until = _monotonic(self._budget.members_s())
            most_s = self._budget.training_s(self._pool.room(self._space.resources))
            least_s = _LEAST_SHARE * most_s if until is not None else 0.0
            phase = Phase("members", MemberTrial, data, self._space.resources, until, least_s, most_s)
            self._run_phase(phase, search, search.trials)
            self._complete = len(search.finished) >= self._settings.member_trials
            trained = [search.finished[number] for number in sorted(search.finished)]
            members |= search.members
        if not members:
            check_any("members", trained, self._folder)
        return members, trained

    def _rounds_done(self) -> int:
        """Whole rounds of members that an earlier run of this folder trained beyond those that are asked for."""
        trained = len(list((self._folder / "trials" / "members").glob("*.json")))
        limited = math.isfinite(self._budget.left_s())
        return trained // self._settings.member_trials if limited and self._settings.member_trials else 0

    def _fill_given(self, spec: EnsembleSpec) -> dict[str, MemberSpec]:
        names = tunable_members(spec)
        for split in ("validation", "held-out"):
            self._store.fill(spec, self._folder, self._rows[split], split, run=pick_runner())
        return {name: spec.members[name] for name in names}

    def _member_search(self, given: Mapping[str, MemberSpec], trials: int) -> MemberSearch:
        labels = self._rows["validation"].labels
        known = {}
        for name in given:
            probs = np.nan_to_num(self._store.read("validation", [name])[0], nan=1e-6)
            known[name] = true_class(probs[None], labels)[0]
        return MemberSearch(
            self._folder, self._space.fitting(row_shape(self._rows["train"])), self._rows,
            trials=trials, seed=self._settings.seed, parallel=self._settings.parallel,
            cheap=any(name in _COSTS for name in self._settings.objectives), say=self._say, known=known,
            given=given,
        )  # fmt: skip

    def _candidates(self, members: Mapping[str, MemberSpec]) -> tuple[str, ...]:
        """The members that structures choose from, the one with the lowest log-loss first."""
        names, probs, labels = self._predictions(list(members), "validation")
        sizes = {name: member_bytes(self._folder, members[name]) for name in names}
        chosen = choose_candidates(names, probs, labels, sizes, self._space.candidates)
        losses = dict(zip(names, member_losses(probs, labels), strict=True))
        return tuple(sorted(chosen, key=lambda name: float(losses[name])))

    def _structures(
        self, number: int, base: dict[str, MemberSpec], heads: HeadSearch | None, given: Measured
    ) -> tuple[Picker, list[Finished]]:
        """What can be made of the candidates; where none are trained each round tries more structures of the same."""
        trials = self._settings.trials * (1 if self._settings.member_trials else number)
        with self._timed("formats"):
            variants, formats = add_formats(self._folder, self._space, self._rows, base, self._run_member, self._say)
        everyone = {**base, **variants, **(heads.trunks if heads else {})}
        everyone |= heads.members_reading([*self._rows["validation"].inputs, *everyone]) if heads else {}
        with self._timed("measuring"):
            found = self._measured(everyone, heads, given)
        columns = tuple(self._column(name, member, found.members[name]) for name, member in everyone.items())
        table, _ = self._table(columns, heads, "validation")
        table = replace(table, overhead=found.overhead or Overhead())
        held_out, answered = self._table(columns, heads, "held-out")
        menu = self._menu(tuple(base), formats, heads)
        search = StructureSearch(
            self._folder, self._space, menu, table,
            objectives=self._settings.objectives, trials=trials, seed=self._settings.seed,
            parallel=self._settings.parallel, sampler=self._settings.sampler, say=self._say,
        )  # fmt: skip
        with self._timed("structures"):
            until = _monotonic(max(_LEAST_STRUCTURES_S, self._budget.structures_s()))
            phase = Phase("structures", StructureTrial, table, Resources(num_cpus=1.0), until)
            self._complete &= self._run_phase(phase, search, trials)
        structures = [search.finished[number] for number in sorted(search.finished)]
        check_any("structures", structures, self._folder)
        judged_on = self._rows["held-out"]
        picker = Picker(self._folder, self._base(base), everyone, tuple(base), table, held_out, judged_on, answered)
        return picker, structures

    def _heads(self, sources: dict[str, MemberSpec]) -> HeadSearch | None:
        """Members that read members, where rows are there to train them on and a topology wants them."""
        if "train" not in self._rows or not {"chain", "shared_trunk"} & set(self._space.topologies):
            return None
        if not self._space.head_trials:
            return None
        if self._found_heads is not None:  # of an earlier round: running their sources again takes as long as a member
            return self._found_heads
        with self._timed("heads"):
            search = HeadSearch(
                self._folder, self._space, self._rows, sources,
                seed=self._settings.seed, parallel=self._settings.parallel, say=self._say,
            )  # fmt: skip
            data = {split: part for name in self._rows for split, part in search.inputs(name).items()}
            left_s = self._budget.heads_s()
            most_s = left_s * self._pool.room(self._space.resources) / max(1, search.trials)
            phase = Phase(
                "heads", MemberTrial, data, self._space.resources, _monotonic(left_s), _LEAST_SHARE * most_s, most_s
            )
            self._complete &= self._run_phase(phase, search, search.trials)
        self._found_heads = search
        return search

    def _run_phase(self, phase: Phase, search: MemberSearch | HeadSearch | StructureSearch, total: int) -> bool:
        watched = _Watched(search, lambda: self._progress(phase.name, search, total))
        return run_trials(self._pool, phase, watched, self._callbacks)

    def _run_member(self, job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
        """A ``Runner`` on the sweep's workers."""
        read = {name: inputs[name] for name in job.member.inputs}
        found: NDArray[np.float32] = self._pool.call(job.member.resources, run_in_process, job, folder.resolve(), read)
        return found

    def _progress(self, phase: str, search: MemberSearch | HeadSearch | StructureSearch, total: int) -> None:
        trials = list(search.finished.values())
        good = [trial for trial in trials if trial.failure is None]
        key = self._settings.objectives[0] if phase == "structures" else "log_loss"
        best = min((trial for trial in good if key in trial.values), key=lambda trial: trial.values[key], default=None)
        values = None if best is None else dict(best.values)
        self._tell(Progress(phase, len(trials), len(trials) - len(good), total, values))

    def _predictions(
        self, names: Sequence[str], split: str
    ) -> tuple[list[str], NDArray[np.float32], NDArray[np.int64]]:
        """Members that answered at least half of the rows, (M, N', C), and labels of the rows that all of these did."""
        arrays = dict(zip(names, self._store.read(split, names), strict=True))
        answered = {name: np.isfinite(array).all(axis=1) for name, array in arrays.items()}
        kept = [name for name in names if answered[name].mean() >= 0.5]
        for name in set(names) - set(kept):
            self._say(f"{name} is left out: it failed on most {split} rows")
        usable = np.all([answered[name] for name in kept], axis=0) if kept else np.zeros(0, bool)
        if not usable.any():
            raise PredictionError("predictions", "no row was answered by every member", "correct the members that fail")
        stacked = np.stack([np.asarray(arrays[name][usable], dtype=np.float32) for name in kept])
        return kept, stacked, self._rows[split].labels[usable]

    def _table(
        self, columns: tuple[Column, ...], heads: HeadSearch | None, split: str
    ) -> tuple[Table, NDArray[np.intp]]:
        """Predictions of every column, NaN of a trunk, which has none; and which of the split's rows they are of."""
        stored = [column.name for column in columns if column.name in self._store.members(split)]
        arrays = dict(zip(stored, self._store.read(split, stored), strict=True))
        arrays |= heads.predictions(split) if heads else {}
        usable = answered_by_all(list(arrays.values()))
        labels = self._rows[split].labels[usable]
        blank = np.full((len(labels), len(self._rows[split].classes)), np.nan, np.float32)
        rows = [np.asarray(arrays[c.name][usable], np.float32) if c.name in arrays else blank for c in columns]
        return Table(columns, np.stack(rows), labels), usable

    def _menu(self, names: tuple[str, ...], formats: Mapping[str, Mapping[str, str]], heads: HeadSearch | None) -> Menu:
        menu = Menu(names, formats=formats)
        if heads is not None:
            chains, trunks = heads.menu(menu)
            menu = replace(menu, chains=chains, trunks=trunks)
        if self._given is None:
            return menu
        fusion = self._given.output_fusion
        return replace(menu, deadline_s=fusion.deadline_s, quorum=fusion.quorum)

    def _base(self, members: Mapping[str, MemberSpec]) -> EnsembleSpec:
        return self._given or bare_spec(self._space.name, members, self._rows["validation"])

    def _column(self, name: str, member: MemberSpec, curve: Curve) -> Column:
        gpus = member.resources.num_gpus if "cuda" in curve.device else 0.0
        reads = tuple(source for source in member.inputs if source not in self._rows["validation"].inputs)
        return Column(name, curve, int(member_bytes(self._folder, member)), reads, gpus)

    def _measured(self, members: Mapping[str, MemberSpec], heads: HeadSearch | None, given: Measured) -> Measured:
        """Times of all members and of serving; what an earlier run of this folder measured is kept."""
        before = load_measured(self._folder)
        known = {**before.members, **given.members}
        missing = [name for name in members if name not in known]
        inputs = dict(self._rows["validation"].inputs)
        if missing:
            self._tell(Progress("measuring", 0, 0, len(missing)))
            read = heads.inputs("validation")["validation"].inputs if heads else inputs
            jobs = [self._job(name, members[name]) for name in missing]
            known |= dict(zip(missing, measure_members(jobs, self._folder, read, self._pool.call), strict=True))
        overhead = given.overhead or before.overhead
        if overhead is None:
            few, classes = {name: array[:64] for name, array in inputs.items()}, len(self._rows["validation"].classes)
            overhead = self._pool.call(Resources(num_cpus=1.0), measure_overhead, few, classes)
        found = Measured(known, overhead)
        with saving(self._folder):
            found.save(self._folder)
        return found

    def _job(self, name: str, member: MemberSpec) -> MemberJob:
        """The member as its replicas would get it; what it reads of other members is not a request input."""
        given = self._given or bare_spec(
            self._space.name, {name: _reading(member, self._rows)}, self._rows["validation"]
        )
        tensors = {key: tensor for key, tensor in given.inputs.items() if key in member.inputs}
        return MemberJob(ensemble=given.name, name=name, member=member, inputs=tensors, classes=given.classes)

    def _say(self, sentence: str) -> None:
        self._tell(Progress("", said=sentence))

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[phase] = round(self._seconds.get(phase, 0.0) + time.perf_counter() - started, 3)


@dataclass(frozen=True)
class _Watched:
    """Generations, each proposal and outcome of which is progress to tell."""

    inner: Generations
    tell: Callable[[], None]

    def next(self) -> Sequence[Task] | None:
        tasks = self.inner.next()
        if tasks is not None:
            self.tell()
        return tasks

    def done(self, number: int, outcome: Mapping[str, Any] | None) -> None:
        self.inner.done(number, outcome)
        self.tell()


def _monotonic(left_s: float) -> float | None:
    return None if math.isinf(left_s) else time.monotonic() + left_s


def _reading(member: MemberSpec, rows: Mapping[str, Labelled]) -> MemberSpec:
    """The member, reading the request alone: enough to tell the request's shape."""
    return member.model_copy(update={"inputs": tuple(rows["validation"].inputs), "output": "logits"})


def check_any(phase: str, finished: Sequence[Finished], folder: Path) -> None:
    """Refuse a phase in which nothing worked.

    Raises:
        SweepError: with the first failure.
    """
    if not any(trial.failure is None for trial in finished):
        found = next((trial.failure for trial in finished), "none ran in the time given")
        fix = f"change the space, or give more time: quorate tune --resume {folder}"
        raise SweepError(phase, f"not one of {len(finished)} trials worked: {found}", fix)
