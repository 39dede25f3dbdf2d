"""Whole sweeps on the digits, with budgets of seconds."""

import json
import re

import numpy as np
import pytest
import sklearn.metrics
from pyarrow import feather, parquet

from quorate.deployments import load_spec
from quorate.deployments.engine.graph import build_graph
from quorate.deployments.engine.revision import build_revision
from quorate.tuning import (
    Labelled,
    Splits,
    load_measured,
    promote,
    resume_sweep,
    run_in_process,
    sweep,
)
from quorate.tuning.errors import DataError, SweepError
from quorate.tuning.runs.probe import load_probe
from quorate.tuning.search.space import Family
from tests.tuning.support.small_sweep import BUDGET, SECRET, SPACE, journal, outcome

HEAD_NUMBERS = ("source", "width", "depth", "dropout", "learning_rate")


def test_every_pick_is_a_spec_that_answers_what_the_report_says(swept, data):
    assert len(swept.pareto) >= 1
    assert swept.complete
    for place, pick in enumerate(swept.pareto):
        folder = swept.folder / "pareto" / str(place)
        spec = load_spec(folder / "spec.yaml")
        assert spec == pick.spec
        revision = build_revision(spec, folder)
        outputs = np.stack([run_in_process(spec.job(name), folder, data.test.inputs) for name in revision.asked])
        fused = revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values
        probe = load_probe(folder, spec)
        np.testing.assert_allclose(probe.expected, fused[: len(probe.expected)], atol=probe.tolerance)
        np.testing.assert_array_equal(probe.inputs["image"], data.test.inputs["image"][: len(probe.expected)])
        wide = fused.astype(np.float64)
        loss = sklearn.metrics.log_loss(data.test.labels, wide / wide.sum(axis=1, keepdims=True))
        assert loss == pytest.approx(pick.log_loss, abs=1e-5)
    assert load_spec(swept.folder / "spec.yaml").fusion == swept.best.spec.fusion


def test_the_best_pick_is_promoted_over_another_that_runs(cluster, swept, data):
    from quorate.deployments import Client
    from quorate.deployments.control.deploy import delete, deploy

    other = swept.pareto[-1]
    url = deploy(other.spec, other.folder).http
    try:
        done = promote(swept.folder, pick=0, anyway=True)  # whether it is worth it does not matter here
        with Client(url, model="digits") as client:
            answer = client.infer(image=data.test.inputs["image"][:16])
    finally:
        delete("digits")
    assert answer.parameters["revision"] == done.revision
    assert done.largest_difference < 1e-4
    np.testing.assert_allclose(answer.outputs["fused"], swept.best.fused[:16], atol=1e-4)


def test_callbacks_are_told_of_every_trial(swept, recorder):
    told = recorder.told
    for what in ("start", "end"):
        phases = [one["phase"] for one in told if one["what"] == what]
        assert (phases.count("MemberTrial"), phases.count("StructureTrial")) == (6, 12)
    losses = [one["log_loss"] for one in told if one["what"] == "end" and one["phase"] == "StructureTrial"]
    assert sorted(losses) == sorted(trial.values["log_loss"] for trial in swept.structures)


def test_no_file_of_a_sweep_and_no_log_of_its_workers_holds_a_secret_of_the_environment(swept):
    from quorate.deployments.control.ray_private import session_folder

    for folder in (swept.folder, session_folder() / "logs"):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) > 20
        assert not [path.name for path in files if SECRET.encode() in path.read_bytes()]


def test_no_pick_is_bettered_in_every_objective(swept):
    table = swept.to_pandas()
    assert len(table) == 12
    for pick in swept.pareto:
        better = (table[["log_loss", "memory_bytes"]] < [pick.values[n] for n in swept.objectives]).all(axis=1)
        assert not better.any()
    assert swept.best.values["log_loss"] == table["log_loss"].min()


def test_the_page_fetches_nothing_and_its_data_lies_beside_it(swept):
    page = (swept.folder / "report.html").read_text()
    assert swept.verdict.split(":")[0] in page
    assert not re.search(r"<(script|link|img|iframe)|(src|href)=\"http|@import|url\(http", page)
    drawn = set(re.findall(r"figures/(\w+).arrow", page))
    assert drawn == {"pareto", "weights", "calibration", "class_gains", "diversity", "learning_curves"}
    assert all(feather.read_table(swept.folder / "figures" / f"{name}.arrow").num_rows for name in drawn)
    assert parquet.read_table(swept.folder / "trials.parquet").num_rows == 12
    assert len(list((swept.folder / "tensorboard").glob("*/events.out.tfevents.*"))) == 7
    assert json.loads((swept.folder / "report.json").read_text())["verdict"] == swept.verdict


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_one_worker_or_four_find_what_two_find_in_a_folder_of_their_own(swept, data, workers):
    measured = load_measured(swept.folder)
    again = sweep(SPACE, data, runs=swept.folder.parent, measured=measured, **{**BUDGET, "workers": workers})
    assert again.folder != swept.folder
    assert outcome(again) == outcome(swept)
    assert [trial.values for trial in again.structures] == [trial.values for trial in swept.structures]
    assert [pick.weights for pick in again.pareto] == [pick.weights for pick in swept.pareto]


@pytest.mark.slow
def test_a_trial_that_gives_no_number_fails_and_is_never_the_best(cluster, data, tmp_path):
    families = {"mlp": Family(width=(8, 8), depth=(1, 1), learning_rate=(1e30, 1e32)), "cnn": SPACE.families["cnn"]}
    space = SPACE.model_copy(update={"families": families})
    result = sweep(space, data, runs=tmp_path, **BUDGET)
    failed = [trial for trial in result.members if trial.failure]
    assert failed
    assert all(trial.params["family"] == "mlp" and "no finite log-loss" in str(trial.failure) for trial in failed)
    assert all(name.startswith("cnn") for pick in result.pareto for name in pick.spec.members)


def test_other_rows_another_sweeps_folder_and_empty_spaces_are_refused(swept, data, tmp_path):
    other = Splits(data.train, data.test, data.validation)
    with pytest.raises(DataError, match="differ from those of the sweep"):
        resume_sweep(swept.folder, other)
    with pytest.raises(SweepError, match="holds a sweep already"):
        sweep(SPACE, data, run_folder=swept.folder, **BUDGET)
    for place in (tmp_path, swept.folder / "sweep.json"):
        with pytest.raises(SweepError, match=r"it has no sweep\.json"):
            resume_sweep(place, data)
    with pytest.raises(SweepError, match="workers: 0; give at least 1"):
        sweep(SPACE, data, runs=tmp_path, **{**BUDGET, "workers": 0})
    with pytest.raises(SweepError, match="none is given and none is trained"):
        sweep(SPACE.model_copy(update={"families": {}}), data, runs=tmp_path, **BUDGET)
    with pytest.raises(SweepError, match="none is given and none is trained"):
        sweep(SPACE, data, runs=tmp_path, **{**BUDGET, "member_trials": 0})


@pytest.mark.slow
def test_the_time_given_ends_a_sweep_with_the_best_so_far(cluster, data, tmp_path):
    result = sweep(SPACE, data, runs=tmp_path, **{**BUDGET, "trials": 1_000_000}, time_s=60)
    assert not result.complete
    assert 0 < len(result.structures) < 1_000_000
    assert load_spec(result.best.folder / "spec.yaml") == result.best.spec


@pytest.mark.slow
def test_permuted_labels_earn_nothing(cluster, data, tmp_path):
    random = np.random.default_rng(0)

    def permuted(part):
        return Labelled(part.inputs, random.permutation(part.labels), part.classes)

    parts = Splits(*(permuted(part) for part in (data.train, data.validation, data.test)))
    result = sweep(SPACE, parts, runs=tmp_path, **BUDGET)
    assert result.best.judgement.decision == "nothing"
    assert result.verdict.startswith("nothing is worth serving")


@pytest.mark.slow
def test_graphs_formats_and_cascades_are_tried_and_their_latency_is_checked(cluster, data, tmp_path):
    space = SPACE.model_copy(
        update={
            "topologies": ("cascade", "chain", "shared_trunk"),
            "formats": ("fp32", "bf16"),
            "deadline_s": (0.01, 1.0),
            "candidates": 3,
        }
    )
    budget = {**BUDGET, "objectives": ("log_loss", "p95_latency_s"), "trials": 30, "check": 2}
    result = sweep(space, data, runs=tmp_path, **budget)
    good = [trial for trial in result.structures if trial.failure is None]
    assert len(good) == 30
    tried = {trial.details["structure"]["topology"] for trial in good}
    assert {"cascade", "chain", "shared_trunk"} <= tried
    assert {trial.params.get("format") for trial in good} >= {"fp32", "bf16"}
    heads = [json.loads(path.read_text())["trial"] for path in sorted((result.folder / "trials/heads").glob("*.json"))]
    assert [head["failure"] for head in heads] == [None] * space.head_trials
    for topology, place in (("chain", 0), ("shared_trunk", 1)):
        proposed = [head["params"] for head in heads[place::2]]
        assert all(set(one) == {f"{topology}.{n}" for n in HEAD_NUMBERS} for one in proposed)
        assert len({one[f"{topology}.width"] for one in proposed}) > 1
    built = [load_spec(pick.folder / "spec.yaml").members for pick in result.pareto]
    for name, member in ((n, m) for members in built for n, m in members.items() if m.model.endswith(":head")):
        params = heads[int(name.rpartition("-")[2])]["params"]
        assert member.config["width"] in params.values()
    before = journal(result.folder)
    assert outcome(resume_sweep(result.folder, data)) == outcome(result)
    assert journal(result.folder) == before
    for place, pick in enumerate(result.pareto):
        spec = load_spec(pick.folder / "spec.yaml")
        build_graph(spec, pick.folder)  # what the engine would serve
        assert spec == pick.spec, place
    assert result.latency
    for check in json.loads((result.folder / "report.json").read_text())["latency"].values():
        assert check["error_s"] == pytest.approx(check["predicted_s"] - check["measured_s"])
        assert 0 < check["serving_s"] < check["predicted_s"]
    overhead = load_measured(result.folder).overhead
    assert overhead is not None
    assert overhead.of(1) > 0


@pytest.mark.slow
def test_members_of_a_spec_are_candidates_without_any_training(cluster, tiny, tmp_path):
    parts = Splits(tiny.splits.train.rows(slice(0, 0)), tiny.splits.validation, tiny.splits.test)
    result = sweep(tiny.spec, parts, space=SPACE, folder=tiny.folder, runs=tmp_path, **{**BUDGET, "member_trials": 0})
    assert result.members == ()
    assert set(result.best.spec.members) <= {"weak", "middle", "strong"}
    assert load_spec(result.folder / "pareto/0/spec.yaml").output_fusion.deadline_s == tiny.spec.fusion.deadline_s
