"""Take a run of tune on with rows that have come since.

What members said of the rows that are there is taken as it was; they are run on rows that are not, or were recorded
when they answered them. Everything is solved on all rows that the run had and on half of the new ones, weights from
those that are served, and judged on the other half: what is served has been fitted on none of them.
"""

# N rows, C classes

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.alternatives.spec_fusion import incumbent_recipe
from quorate.tuning.data.halves import halves
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.data.later.more_rows import MoreRows, joined_rows
from quorate.tuning.data.later.row_keys import places_in, row_keys
from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.evaluation.metrics.row_metrics import Metric
from quorate.tuning.predictions.filling import FillReport
from quorate.tuning.predictions.kept_rows import KeptRows
from quorate.tuning.predictions.row_parts import Kept, Part, RowParts, joined
from quorate.tuning.predictions.run_member import Runner, run_in_process
from quorate.tuning.predictions.store import PredictionStore
from quorate.tuning.runs.probe import probe_inputs
from quorate.tuning.runs.run_folder import new_run_folder
from quorate.tuning.workflows.continued.former_run import TRAINED, FormerRun
from quorate.tuning.workflows.continued.train_on import TrainOn, apart, trained_on
from quorate.tuning.workflows.guarantees import Promised
from quorate.tuning.workflows.measured_price import Prices
from quorate.tuning.workflows.question import checked_question
from quorate.tuning.workflows.run_members import HELD_OUT, VALIDATION, announced, read_members
from quorate.tuning.workflows.tune_fusion import MEMORY_BYTES, JudgedFusion, judge_fusion, write_run
from quorate.tuning.workflows.tune_result import More, TuneResult

Inputs = Mapping[str, NDArray[Any]]


def tune_more(
    former: FormerRun, more: MoreRows, metric: Metric | None = None, costs: ArrayLike | None = None, *,
    old: Labelled | None = None, min_gain: float = 0.0, runs: Path | str = "runs", run: Runner = run_in_process,
    on_step: Callable[[str], None] | None = None, seed: int = 0, promised: Promised | None = None,
    memory_bytes: int = MEMORY_BYTES, prices: Prices | None = None, risk: Risk | None = None, refit: bool = True,
    train_on: TrainOn | None = None,
) -> TuneResult:  # fmt: skip
    """A new run, of the former one's rows and the new ones; the former stays as it is.

    Args:
        former: the run that is taken on.
        more: new rows; those that the run has already, label and all, count once.
        old: rows of the former run, where some members have to be run on them again, since they are others now, or a
            rule reads inputs.
        train_on: networks among the members are trained on, by a quarter of the new rows, as candidates beside what
            they are; ``old`` are then needed, of which nobody knows what these say.
        metric, costs, min_gain, runs, run, on_step, seed, promised, memory_bytes, prices, risk, refit: as of
            ``tune_fusion``.

    Raises:
        TuningError: no row is new, or a fusion that reads inputs, of which there are none.
        PredictionError: what a member says of most rows is not known, and there are no inputs to run it on.
        DataError, MemberLoadError: rows do not fit; a member cannot be run.
    """
    say = on_step or (lambda step: None)
    rows = _Rows(former, more, old, seed, train_on is not None)
    with tempfile.TemporaryDirectory(prefix="quorate-candidates-") as place:
        spec, folder = former.whole, former.folder
        if train_on is not None:
            spec, candidates = trained_on(spec, folder, rows.training, train_on, Path(place), say)
            folder = Path(place)
            rows.unknown(candidates)
        question = checked_question(
            spec, rows.solving, rows.judging, metric, costs, promised, risk=risk, overlaps=rows.overlaps
        )  # fmt: skip
        question = replace(question, solved_before=True, example=rows.example)
        asked = rows.asked(spec, folder, run, say)
        where = new_run_folder(runs, spec.name)
        store = PredictionStore(where / "predictions")
        filled = {split: _fill(store, spec, folder, split, part) for split, part in asked.items()}
        store.keep_rows(TRAINED, rows.trained)
        found = read_members(store, spec, filled, rows.solving, rows.judging, memory_bytes, seed)
        judged = judge_fusion(
            spec, folder, question, lambda: found, store, min_gain=min_gain, seed=seed, prices=prices, refit=refit,
            say=say, served=incumbent_recipe(former.served, former.folder, question.by.of_labels),
        )  # fmt: skip
        judged = replace(judged, warnings=(*judged.warnings, *_said(asked, rows.more)), more=rows.counts)
        return write_run(spec, folder, where, judged, store, rows.probe(judged, spec), None, say)


class _Rows:
    """The rows of both splits, and where what is known of them lies."""

    def __init__(self, former: FormerRun, more: MoreRows, old: Labelled | None, seed: int, train: bool):
        self._former, self._why = former, dict[str, str]()
        self._past = {VALIDATION: former.solved, HELD_OUT: former.judged}
        self._kept: dict[str, Kept] = {}
        for split in self._past:
            changed = former.store.changed(former.whole, former.folder, split)
            self._kept[split] = Kept(former.store, split, set(changed))
            self._why |= changed
        known = _known([*self._past.values(), former.trained], more)
        self.more = more.at(np.flatnonzero(~known))
        if not len(self.more):
            found = f"all {len(more)} rows are in {former.folder} already"
            raise TuningError("more", found, "give rows that have come since")
        new = self.more.rows
        beside = (new.labels, new.groups, new.times, seed)
        train_on, first, second = apart(*beside) if train else (np.zeros(0, np.intp), *halves(*beside))
        training = self.more.at(train_on)
        self.training = training.rows
        before = former.trained
        self.trained = KeptRows.named(
            np.concatenate([before.keys, training.keys]), joined_rows([before.rows, joined_rows([training.rows])])
        )
        self._old = (old, row_keys(old.inputs)) if old is not None else None
        parts = [*(self._before(split) for split in self._past), self._since(first)]
        self._parts = {VALIDATION: parts, HELD_OUT: [self._since(second)]}
        before_rows = sum(map(len, self._past.values()))
        self.counts = More(len(first), len(second), int(known.sum()), before_rows, len(train_on))
        self.solving, self.judging = (_joined(self._parts[split]) for split in (VALIDATION, HELD_OUT))
        self._check_inputs()

    @property
    def overlaps(self) -> list[str]:
        """A sentence on judging rows whose inputs are those of solving rows."""
        ours, theirs = (np.concatenate([p.keys for p in self._parts[split]]) for split in (HELD_OUT, VALIDATION))
        shared = int((places_in(ours, theirs) >= 0).sum())
        return [f"{shared} of {len(ours)} judging rows are also solving rows, with other labels"] * bool(shared)

    @property
    def example(self) -> Inputs:
        """Inputs of some rows, to measure members on; those of the former run's probe where nothing else is known."""
        return self.judging.inputs or probe_inputs(self._former.folder, self._former.served)

    def unknown(self, candidates: Sequence[str]) -> None:
        """These have been asked about nothing yet."""
        for kept in self._kept.values():
            kept.unknown.update(candidates)
        self._why |= dict.fromkeys(candidates, "it was trained on just now")

    def asked(
        self, spec: EnsembleSpec, folder: Path, run: Runner, say: Callable[[str], None]
    ) -> dict[str, RowParts]:  # fmt: skip
        """Both splits, ready to be filled.

        Raises:
            PredictionError: what a member says of most rows can nobody tell.
        """
        for name in spec.output_fusion.members:
            self._check_known(name)
        return {
            split: RowParts(parts, spec, folder, announced(run, split, say)) for split, parts in self._parts.items()
        }

    def probe(self, judged: JudgedFusion, spec: EnsembleSpec) -> tuple[Labelled, NDArray[np.intp], str]:
        """Rows to show that what is served is what was tuned, their numbers, and of which split they are."""
        if self.judging.inputs:
            return self.judging, judged.found.rows[HELD_OUT], HELD_OUT
        inputs = probe_inputs(self._former.folder, self._former.served)
        keys = np.concatenate([part.keys for part in self._parts[VALIDATION]])
        if not inputs or set(inputs) != set(spec.inputs):
            return self.judging, np.zeros(0, np.intp), HELD_OUT
        places = places_in(row_keys(inputs), keys)
        places = np.where(np.isin(places, judged.found.rows[VALIDATION]), places, -1)
        order = np.argsort(places)[(places < 0).sum() :]
        shown = {name: array[order] for name, array in inputs.items()}
        return _beside(self.solving, places[order], shown), places[order], VALIDATION

    def _before(self, split: str) -> Part:
        past = self._past[split]
        copies = ((np.arange(len(past)), self._kept[split]),)
        if self._old is None:
            return Part(past.keys, past.rows, copies)
        old, keys = self._old
        return Part(past.keys, past.rows, copies, inputs=old.inputs, with_inputs=places_in(past.keys, keys))

    def _since(self, places: NDArray[np.intp]) -> Part:
        some = self.more.at(places)
        copies = [(places_in(some.keys, past.keys), self._kept[split]) for split, past in self._past.items()]
        whole = np.arange(len(some)) if some.rows.inputs else np.zeros(0, np.intp)
        bare = joined_rows([some.rows])
        return Part(some.keys, bare, copies, some.outputs, some.rows.inputs, whole)

    def _check_known(self, name: str) -> None:
        every = np.arange(max(len(part) for parts in self._parts.values() for part in parts))
        for split, parts in self._parts.items():
            total = sum(map(len, parts))
            blank = sum(
                int((~part.known(name, every[: len(part)])[1] & ~part.readable).sum()) for part in parts
            )  # fmt: skip
            if blank <= total / 2:
                continue
            why = self._why.get(name)
            if split == HELD_OUT or why is None:
                recorded = self.more.others.get(name)
                why = f"another one answered {recorded} of the new rows" if recorded else "it was not asked"
            found = f"nobody knows what it says of {blank} of {total} rows: {why}"
            fix = "give the inputs of rows: --data with those of the run; a record that keeps inputs, or data"
            raise PredictionError(f"members.{name}", found, fix)

    def _check_inputs(self) -> None:
        """Refuse a fusion that reads inputs where they are not known."""
        rule = self._former.served.output_fusion.rule
        if RULES[rule].reads_inputs and not (self.solving.inputs and self.judging.inputs):
            found = f"{rule}, which chooses members by what is asked, and inputs of some rows are not known"
            raise TuningError("fusion.rule", found, "give the rows of the run, too: --data, and new rows with inputs")


def _known(past: Sequence[KeptRows], more: MoreRows) -> NDArray[np.bool_]:
    """(N,) rows that are there already, with the same label."""
    keys = np.concatenate([more.keys, *(one.keys for one in past)])
    labels = np.concatenate([more.rows.labels, *(one.rows.labels for one in past if len(one))])
    labels = labels.reshape(len(labels), -1)
    named = np.empty(len(keys), dtype=[("key", keys.dtype), ("label", labels.dtype, labels.shape[1:])])
    named["key"], named["label"] = keys, labels
    contents = np.ascontiguousarray(named).view(np.dtype((np.void, named.dtype.itemsize))).reshape(-1)
    _, number = np.unique(contents, return_inverse=True)
    new, before = number.reshape(-1)[: len(more)], number.reshape(-1)[len(more) :]
    return np.asarray(np.isin(new, before))


def _joined(parts: list[Part]) -> Labelled:
    """All rows, with inputs where they are known of each."""
    rows = joined_rows([part.rows for part in parts])
    if not all(part.readable.all() for part in parts):
        return rows
    arrays = [part.read(np.arange(len(part))) for part in parts]
    if any(one.keys() != arrays[0].keys() for one in arrays):
        return rows
    return replace(rows, inputs={name: joined([one[name] for one in arrays]) for name in arrays[0]})


def _beside(rows: Labelled, places: NDArray[np.intp], inputs: Inputs) -> Labelled:
    """Rows of which only those at ``places`` have inputs."""
    filled = {}
    for name, array in inputs.items():
        filled[name] = np.zeros((len(rows), *array.shape[1:]), array.dtype)
        filled[name][places] = array
    return replace(rows, inputs=filled)


def _fill(store: PredictionStore, spec: EnsembleSpec, folder: Path, split: str, rows: RowParts) -> FillReport:
    filled = store.fill_rows(spec, folder, rows.kept, split, rows.predicted, rows.row_bytes)
    ran = {name: f"run on {rows.ran[name]} rows" for name in filled.computed if rows.ran[name]}
    return FillReport(tuple(name for name in filled.computed if name not in ran), ran)


def _said(asked: Mapping[str, RowParts], more: MoreRows) -> list[str]:
    """Sentences on rows of which something is not known."""
    found = []
    for name in dict.fromkeys(name for part in asked.values() for name in part.unknown):
        count = sum(part.unknown[name] for part in asked.values())
        if count:
            found.append(f"what {name} says of {count} rows is not known, which are left out")
    found += [f"another {name} answered {count} of the new rows" for name, count in more.others.items()]
    return found
