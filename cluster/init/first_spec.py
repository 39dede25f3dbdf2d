"""From models and a table to a spec that is valid: inputs that all models run on, the classes, a mean of all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.cluster.init.data_columns import TRIED_ROWS, Data
from quorate.cluster.init.found_models import FoundModel, find_models
from quorate.cluster.init.input_layouts import Layout, asked, of_columns
from quorate.cluster.init.model_inputs import own_inputs
from quorate.cluster.init.trial import Trial, run
from quorate.deployments.atomic_files import write_whole
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.rows.example import example_rows
from quorate.deployments.rows.opening import RowsLike
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.defaults import ALL
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.files import parse_spec
from quorate.deployments.spec.schema import TensorSpec
from quorate.deployments.spec.text.yaml_text import write_yaml
from quorate.tuning.evaluation.class_order import fitting_order


def write_first_spec(
    path: Path, name: str, data: RowsLike | None, label: str, inputs: Sequence[str],
    classes: Sequence[str] | None, factories: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]],
) -> tuple[EnsembleSpec, Mapping[str, Sequence[str]]]:  # fmt: skip
    """The spec as it was written, and the columns of inputs that the data calls otherwise; see ``operations.init``."""
    folder, table = path.parent, None if data is None else Data(data, label)
    models = find_models(folder, factories, configs)
    layout, trials = _first_that_runs(models, folder, table, inputs)
    found = _classes(trials, table, classes)
    read = {source for trial in trials for source in trial.inputs}
    names = {trial.model.name: _free(trial.model.name, read) for trial in trials}
    tensors = {given: tensor for given, tensor in layout.inputs.items() if given in read}
    written: dict[str, Any] = {
        "name": name if name not in {*read, *names.values()} else f"{name}-ensemble",
        "inputs": {given: _short(tensor) for given, tensor in tensors.items()},
        "classes": list(found),
        "members": {names[trial.model.name]: _member(trial, found, tuple(tensors), table) for trial in trials},
        "fusion": {"rule": "mean"},
    }
    if not found:
        del written["classes"]
    spec = parse_spec(written)
    check_files(spec, folder)
    write_whole(path, write_yaml(written).encode())
    return spec, {given: columns for given, columns in layout.columns.items() if given in read}


def _first_that_runs(
    models: Sequence[FoundModel], folder: Path, table: Data | None, inputs: Sequence[str]
) -> tuple[Layout, list[Trial]]:
    """The inputs that all models run on, and what they gave.

    Raises:
        MemberLoadError: where there are none, of the inputs that most models run on.
    """
    failed: tuple[int, MemberLoadError] | None = None
    for layout in _layouts(models, folder, table, inputs):
        rows = _rows(layout, folder, table)
        trials: list[Trial] = []
        try:
            trials.extend(run(model, folder, layout.inputs, rows) for model in models)
        except MemberLoadError as error:
            failed = max(failed or (-1, error), (len(trials), error), key=lambda found: found[0])
        else:
            return layout, trials
    if failed is None:
        found = "no model says what it reads, and there is no data"
        raise SpecError("inputs", found, "give --data, or say --input NAME:DATATYPE[SHAPE]")
    raise failed[1]


def _layouts(models: Sequence[FoundModel], folder: Path, table: Data | None, inputs: Sequence[str]) -> Iterator[Layout]:
    if inputs:
        yield asked(inputs, table)
        return
    for model in models:
        own = own_inputs(folder / model.model)
        if own and (table is None or own.keys() <= table.columns.keys()):
            yield Layout(own)
    if table is not None:
        yield from of_columns(table.columns)


def _rows(layout: Layout, folder: Path, table: Data | None) -> Mapping[str, NDArray[Any]]:
    if table is not None:
        return table.rows(layout.wanted(), layout.columns)
    rows = example_rows(layout.inputs, TRIED_ROWS, folder)
    random = np.random.default_rng(0)  # what is the same in all rows may sum to one by chance
    return {
        name: random.normal(size=array.shape).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in rows.items()
    }


def _classes(trials: Sequence[Trial], table: Data | None, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Those that are said: by the user, by labels, by models; none where labels are values.

    Raises:
        SpecError: as many as a model gives numbers have to be said.
    """
    labelled = None if table is None else table.labels().classes
    if asked is None and table is not None and labelled is None:
        return ()
    named = max((trial.classes or () for trial in trials), key=len)
    found = tuple(asked or labelled or named)
    if not found and all(trial.width == 1 for trial in trials):
        return ()
    for trial in trials:
        if trial.width != len(found) and not set(trial.classes or "-") <= set(found):
            told = f"{', '.join(found[:10])} are {len(found)} classes" if found else "nobody says what they are"
            fix = "say --classes A,B,... in the order of its columns"
            raise SpecError("classes", f"member {trial.model.name} gives {trial.width} numbers a row, and {told}", fix)
    return found


def _free(name: str, inputs: Collection[str]) -> str:
    """A member's name that no input has."""
    return f"{name}_model" if name in inputs else name


def _short(tensor: TensorSpec) -> Any:
    """One value a row is said by its type alone."""
    return tensor.model_dump(mode="json", exclude_defaults=True) if tensor.shape else tensor.datatype


def _member(trial: Trial, classes: Sequence[str], inputs: tuple[str, ...], table: Data | None) -> dict[str, Any]:
    read = [ALL] if trial.inputs == inputs and len(inputs) > 1 else list(trial.inputs)
    found = {**trial.model.member(), "inputs": read, "output": trial.kind(len(classes))}
    named = bool(trial.classes) and set(trial.classes or ()) <= set(classes)
    order = None if named or table is None or not classes else _order(trial, classes, table)
    return found if order is None else {**found, "classes": order}


def _order(trial: Trial, classes: Sequence[str], table: Data) -> list[str] | None:
    """The classes in the order of the columns of a model that does not name them, where labels show another one."""
    places = [classes.index(name) if name in classes else -1 for name in table.names()[: len(trial.output)]]
    rows = [row for row, place in enumerate(places) if place >= 0]
    if trial.output.ndim != 2 or trial.width != len(classes) or not rows:
        return None
    order = fitting_order(trial.output[rows].astype(np.float64), np.array(places)[rows])
    return None if order is None else [classes[place] for place in order]
