"""A run that is taken on asks members about nothing twice."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import quorate
from quorate.deployments import load_spec, parse_spec
from quorate.tuning import Labelled, Training, run_in_process, tune_fusion
from quorate.tuning.data.later.more_rows import more_of_data
from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.workflows.continued.former_run import former_run
from quorate.tuning.workflows.continued.train_on import TrainOn
from quorate.tuning.workflows.continued.tune_more import tune_more

pytestmark = pytest.mark.long


class Counting:
    """Runs members, and counts the rows that each was asked about."""

    def __init__(self):
        self.rows = Counter[str]()

    def __call__(self, job, folder, inputs):
        self.rows[job.name] += len(next(iter(inputs.values())))
        return run_in_process(job, folder, inputs)


@pytest.fixture(scope="module")
def parts(tiny):
    """Rows that a first run had, and rows that came later."""
    validation, test = tiny.splits.validation, tiny.splits.test
    return validation.rows(slice(0, 200)), test.rows(slice(0, 200)), test.rows(slice(200, 300))


@pytest.fixture(scope="module")
def first(tiny, parts, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return tune_fusion(tiny.spec, tiny.folder, parts[0], parts[1], runs=runs)


def taken_on(first, rows, tmp_path, old=None, **asked):
    run = Counting()
    return tune_more(former_run(first.folder), more_of_data(rows), run=run, runs=tmp_path, old=old, **asked), run.rows


@pytest.fixture(scope="module")
def second(first, parts, tmp_path_factory):
    return taken_on(first, parts[2], tmp_path_factory.mktemp("second"))


def test_members_run_on_new_rows_alone(tiny, second, tmp_path):
    result, asked = second
    assert dict(asked) == dict.fromkeys(tiny.spec.members, 100)
    assert (result.more.solved, result.more.judged, result.more.before) == (50, 50, 400)
    assert result.choice.rows == 50
    again, asked = taken_on(result, tiny.splits.test.rows(slice(250, 340)), tmp_path)
    assert dict(asked) == dict.fromkeys(tiny.spec.members, 40)
    assert (again.more.known, again.more.before, again.more.solved + again.more.judged) == (50, 500, 40)


def test_what_members_said_before_is_what_they_would_say_now(tiny, second, parts):
    store = former_run(second[0].folder)
    rows = np.concatenate([store.solved.rows.labels, store.judged.rows.labels])
    every = np.concatenate([part.labels for part in parts])
    assert sorted(rows.tolist()) == sorted(every.tolist())
    for name, kept in zip(tiny.spec.members, store.store.read("validation", list(tiny.spec.members)), strict=True):
        said = [run_in_process(tiny.spec.job(name), tiny.folder, part.inputs) for part in parts[:2]]
        np.testing.assert_allclose(kept[:400], np.concatenate(said), atol=1e-6)


def test_rows_that_are_all_there_are_refused(first, parts, tmp_path):
    with pytest.raises(TuningError, match=r"all 200 rows are in .* already"):
        taken_on(first, parts[1], tmp_path)


def test_a_member_that_changed_is_run_again_where_rows_are_given_and_refused_where_not(tiny, first, parts, tmp_path):
    former = former_run(first.folder)
    changed = former.whole.model_dump(mode="json", exclude_defaults=True)
    weak = load_spec(first.folder / "spec-uniform.yaml").members["middle"]
    changed["members"]["weak"] = weak.model_dump(mode="json", exclude_defaults=True)
    other = replace(former, whole=parse_spec(changed), served=parse_spec(changed))
    with pytest.raises(PredictionError, match=r"members.weak.*400 of 450 rows: its member changed.*--data"):
        tune_more(other, more_of_data(parts[2]), run=Counting(), runs=tmp_path)
    run = Counting()
    both = tiny.splits.validation.rows(slice(0, 0))
    old = type(both)(
        {"image": np.concatenate([p.inputs["image"] for p in parts[:2]])},
        np.concatenate([p.labels for p in parts[:2]]),
        both.classes,
    )
    result = tune_more(other, more_of_data(parts[2]), run=run, runs=tmp_path, old=old)
    assert dict(run.rows) == {"weak": 500, "middle": 100, "strong": 100}
    assert result.rows_left_out == {"validation": 0, "held-out": 0}


def test_the_command_takes_a_run_on(tiny, first, parts, tmp_path):
    np.savez(tmp_path / "more.npz", image=parts[2].inputs["image"], label=parts[2].labels)
    result = quorate.tune(first.folder, more=tmp_path / "more.npz", runs=tmp_path)
    assert result.more is not None
    assert result.more.solved + result.more.judged == 100
    assert "100 new rows beside 400" in str(result)
    assert (result.folder / "probe.arrow").is_file()


def test_networks_trained_on_are_candidates_beside_what_they_were(tiny, first, parts, tmp_path):
    validation, test = tiny.splits.validation, tiny.splits.test
    images = {"image": np.concatenate([part.inputs["image"] for part in parts[:2]])}
    old = Labelled(images, np.concatenate([part.labels for part in parts[:2]]), test.classes)
    how = TrainOn(Training(epochs=6, learning_rate=0.02), tiny.splits.train)
    more = validation.rows(slice(200, 360))
    result, asked = taken_on(first, more, tmp_path, old, train_on=how)
    assert dict(asked) == {
        **dict.fromkeys(tiny.spec.members, 120), **{f"{name}-2": 520 for name in tiny.spec.members}
    }  # fmt: skip
    assert (result.more.trained, result.more.solved, result.more.judged) == (40, 40, 80)
    singles = result.choice.alternatives
    assert singles["weak-2"].value < singles["weak"].value
    with pytest.raises(TuningError, match=r"all 160 rows are in"):  # those that were trained on, too
        taken_on(result, more, tmp_path)


def test_training_on_wants_the_rows_of_the_run(tiny, first, parts, tmp_path):
    with pytest.raises(PredictionError, match=r"weak-2.*it was trained on just now.*--data"):
        taken_on(first, parts[2], tmp_path, train_on=TrainOn(Training(epochs=1)))
