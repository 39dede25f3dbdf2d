import json
import re

import numpy as np
import pytest
import sklearn.metrics

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.tuning import Labelled, PredictionStore, run_in_process, score_weights, simplex_weights, tune_fusion
from quorate.tuning.errors import DataError, PredictionError, TuningError
from quorate.tuning.evaluation.figures import Evidence, class_gains
from quorate.tuning.evaluation.row_scores import answers
from tests.tuning.support.hedged import hedged

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def tuned(tiny, tmp_path_factory):
    """A run that is only looked at."""
    runs = tmp_path_factory.mktemp("runs")
    return tune_fusion(tiny.spec, tiny.folder, tiny.splits.validation, tiny.splits.test, runs=runs)


def served(file, folder, data):
    """What the spec in this file answers, by the code that serves it."""
    spec = load_spec(folder / file)
    revision = build_revision(spec, folder)
    outputs = np.stack([run_in_process(spec.job(name), folder, data.inputs) for name in revision.asked])
    return revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values


def test_the_run_folder_holds_a_spec_of_each_alternative_and_the_report_says_how_it_was_judged(tiny, tuned):
    choice, test = tuned.choice, tiny.splits.test
    assert load_spec(tuned.folder / "spec.yaml") == tuned.spec
    assert set(choice.recipes) == {*choice.alternatives} - {"class_frequencies"}
    assert {*tiny.spec.members, "uniform", "incumbent", "tuned", "log_pool", "calibrated", "stacking"} <= {
        *choice.recipes
    }
    said = np.stack([run_in_process(tiny.spec.job(name), tiny.folder, test.inputs) for name in tiny.spec.members])
    for name, recipe in choice.recipes.items():
        answered = served("spec.yaml" if name == choice.recommended else f"spec-{name}.yaml", tuned.folder, test)
        np.testing.assert_allclose(answered, choice.served[name].fuse(tuple(tiny.spec.members), said), atol=1e-5)
        probs, found = recipe.fuse(tuple(tiny.spec.members), said), choice.alternatives[name]
        probs = probs.astype(float) / probs.astype(float).sum(axis=1, keepdims=True)  # float32 sums to almost one
        assert sklearn.metrics.log_loss(test.labels, probs) == pytest.approx(found.value, abs=1e-5)
        assert found.low <= found.value <= found.high
    assert tuned.spec.output_fusion.deadline_s == 2.0
    alone = load_spec(tuned.folder / "spec-strong.yaml")
    assert (list(alone.members), alone.output_fusion.quorum) == (["strong"], 1)


def test_rows_that_a_member_is_missing_from_are_served_with_the_weights_the_run_wrote(tiny, tmp_path):
    probs, labels = hedged(980, 0)
    (tmp_path / "my_factory_e.py").write_text(
        "import numpy as np\ndef make(member):\n    return lambda row: row[:, member]\n"
    )
    members = {
        name: {
            "model": "my_factory_e:make",
            "config": {"member": number},
            "inputs": ["row"],
            "output": "probabilities",
        }
        for number, name in enumerate("abc")
    }
    spec = parse_spec(
        {
            "name": "hedged",
            "inputs": {"row": {"datatype": "FP32", "shape": [3, 2]}},
            "classes": ["0", "1"],
            "members": members,
            "fusion": {"rule": "mean"},
        }
    )
    rows = Labelled({"row": probs.transpose(1, 0, 2).astype(np.float32)}, labels, ("0", "1"))
    first, second = rows.rows(slice(0, 490)), rows.rows(slice(490, 980))
    result = tune_fusion(spec, tmp_path, first, second, runs=tmp_path / "runs")
    pattern = next(pattern for pattern in result.patterns if set(pattern) == {"a", "b"})
    file = "spec.yaml" if result.choice.recommended == "tuned" else "spec-tuned.yaml"
    revision = build_revision(load_spec(result.folder / file), result.folder)
    present = np.ones((3, 490), dtype=bool)
    present[2, ::2] = False
    outputs = second.inputs["row"].transpose(1, 0, 2)
    fused = revision.fuse(outputs, present).values
    np.testing.assert_allclose(fused[::2], (pattern["a"] * outputs[0] + pattern["b"] * outputs[1])[::2], atol=1e-6)
    full = np.tensordot(list(result.weights.values()), outputs, axes=1)
    np.testing.assert_allclose(fused[1::2], full[1::2], atol=1e-6)


def test_the_linear_pools_weights_are_proven_near_the_best_on_validation(tiny, tuned):
    assert sum(tuned.weights.values()) == pytest.approx(1)
    probs = np.stack(PredictionStore(tuned.folder / "predictions").read("validation", list(tuned.weights)))
    weights = np.array(list(tuned.weights.values()))
    best = simplex_weights(probs, tiny.splits.validation.labels).score
    found = score_weights(probs, tiny.splits.validation.labels, weights)[0]
    assert found == pytest.approx(best, abs=tuned.gap + 1e-9)


def test_a_quorum_that_an_alternative_leaves_too_few_members_for_is_lowered(tiny, tmp_path):
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    data["members"] = dict.fromkeys(("one", "two"), data["members"]["strong"])
    data["fusion"]["members"] = ["one", "two"]

    def ruined(job, folder, inputs):
        probs = run_in_process(job, folder, inputs)
        return np.full_like(probs, 0.1) if job.name == "two" else probs

    splits = tiny.splits
    result = tune_fusion(parse_spec(data), tiny.folder, splits.validation, splits.test, runs=tmp_path, run=ruined)
    assert result.weights["two"] == pytest.approx(0, abs=0.05)
    alone = load_spec(result.folder / "spec-one.yaml")
    assert (alone.output_fusion.quorum, data["fusion"]["quorum"]) == (1, 2)
    assert list(alone.members) == ["one"]  # nothing asks the other any more


def test_the_report_is_json_with_the_verdict_and_every_alternative(tuned):
    report = json.loads((tuned.folder / "report.json").read_text())
    assert report == json.loads(json.dumps(tuned.to_dict()))
    assert report["verdict"] == tuned.choice.verdict
    assert report["recommended"] in report["alternatives"]
    for found in report["alternatives"].values():
        assert found["low"] <= found["log_loss"] <= found["high"]
    assert report["rows_left_out"] == {"validation": 0, "held-out": 0}


def test_a_run_with_the_same_seed_gives_the_same_and_a_folder_of_its_own(tiny, tuned):
    runs = tuned.folder.parent
    again = tune_fusion(tiny.spec, tiny.folder, tiny.splits.validation, tiny.splits.test, runs=runs)
    assert again.to_dict() == tuned.to_dict()
    assert again.folder != tuned.folder


def test_a_shared_store_saves_the_second_run_the_members(tiny, tuned, tmp_path):
    store, splits, steps = PredictionStore(tuned.folder / "predictions"), tiny.splits, list[str]()
    second = tune_fusion(
        tiny.spec, tiny.folder, splits.validation, splits.test, runs=tmp_path, store=store, on_step=steps.append
    )
    assert second.filled["validation"].computed == {}
    assert not any(step.startswith("running") for step in steps)


def test_a_factory_beside_the_spec_goes_with_the_run(tiny, tmp_path):
    home = tmp_path / "home"
    (home / "artifacts").mkdir(parents=True)
    (home / "my_factory_c.py").write_text(
        "import numpy as np\ndef make():\n    return lambda image: np.full((len(image), 10), 0.1, np.float32)\n"
    )
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    for name in ("middle", "strong"):
        data["members"][name]["weights"] = str(tiny.folder / data["members"][name]["weights"])
    data["members"]["weak"] = {"model": "my_factory_c:make", "inputs": ["image"], "output": "probabilities"}
    result = tune_fusion(parse_spec(data), home, tiny.splits.validation, tiny.splits.test, runs=tmp_path / "runs")
    assert (result.folder / "my_factory_c.py").is_file()
    spec = load_spec(result.folder / "spec.yaml")
    assert re.fullmatch(r"artifacts/strong-[0-9a-f]{12}\.safetensors", spec.members["strong"].weights or "")
    assert result.weights["weak"] < 0.05


def test_permuted_labels_earn_nothing_over_the_class_frequencies(tiny, tmp_path):
    random = np.random.default_rng(0)
    validation, test = (
        Labelled(part.inputs, random.permutation(part.labels), part.classes)
        for part in (tiny.splits.validation, tiny.splits.test)
    )
    result = tune_fusion(tiny.spec, tiny.folder, validation, test, runs=tmp_path)
    assert (result.choice.recommended, result.choice.decision) == ("class_frequencies", "nothing")
    assert result.choice.verdict.startswith("nothing is worth serving")
    assert load_spec(result.folder / "spec.yaml").members == tiny.spec.members  # as it was given


def test_members_that_are_one_and_the_same_are_not_worth_ensembling(tiny, tmp_path):
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    data["members"] = dict.fromkeys(("one", "two", "three"), data["members"]["strong"])
    data["fusion"]["members"] = ["one", "two", "three"]
    result = tune_fusion(parse_spec(data), tiny.folder, tiny.splits.validation, tiny.splits.test, runs=tmp_path)
    assert result.choice.alternatives["uniform"].value == pytest.approx(result.choice.alternatives["one"].value)
    assert result.choice.recommended not in {"uniform", "tuned", "incumbent"}


def test_rows_a_member_fails_on_are_left_out_and_counted(tiny, tmp_path):
    def patchy(job, folder, inputs):
        probs = run_in_process(job, folder, inputs)
        if job.name == "weak":
            probs[:5] = np.nan
        return probs

    splits = tiny.splits
    result = tune_fusion(tiny.spec, tiny.folder, splits.validation, splits.test, runs=tmp_path, run=patchy)
    assert result.rows_left_out == {"validation": 5, "held-out": 5}
    assert result.choice.rows == len(splits.test) - 5


def test_a_member_that_mostly_fails_is_named(tiny, tmp_path):
    def failing(job, folder, inputs):
        probs = run_in_process(job, folder, inputs)
        if job.name == "middle":
            probs[10:] = np.nan
        return probs

    with pytest.raises(PredictionError, match=r"members\.middle: it failed on 350 of 360 rows"):
        tune_fusion(tiny.spec, tiny.folder, tiny.splits.validation, tiny.splits.test, runs=tmp_path, run=failing)


def test_judging_on_the_rows_that_were_solved_on_is_refused(tiny, tmp_path):
    validation = tiny.splits.validation
    with pytest.raises(DataError, match="are also validation rows"):
        tune_fusion(tiny.spec, tiny.folder, validation, validation, runs=tmp_path)
    with pytest.raises(DataError, match="at least 2"):
        tune_fusion(tiny.spec, tiny.folder, validation, tiny.splits.test.rows(slice(0, 1)), runs=tmp_path)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (lambda y: y + 1, "validation labels: from 1 to 10 with 10 classes; give indices from 0 to 9"),
        (lambda y: y - 1, "validation labels: from -1 to 8 with 10 classes"),
        (lambda y: y.astype(str), "validation labels: they are <U"),
        (lambda y: y[1:], "validation rows: 360 rows of input 'image' with 359 labels"),
    ],
)
def test_labels_of_no_class_are_refused_before_anything_is_computed(tiny, tmp_path, changed, sentence):
    rows = tiny.splits.validation
    wrong = Labelled(rows.inputs, changed(rows.labels), rows.classes)
    with pytest.raises(DataError, match=sentence):
        tune_fusion(tiny.spec, tiny.folder, wrong, tiny.splits.test, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_class_without_a_validation_row_is_no_error(tiny, tmp_path):
    splits = tiny.splits
    without = splits.validation.rows(splits.validation.labels != 3)
    result = tune_fusion(tiny.spec, tiny.folder, without, splits.test, runs=tmp_path)
    assert result.choice.rows == len(splits.test)


def test_members_that_say_the_same_of_every_row_are_not_worth_ensembling(tiny, tmp_path):
    def flat(job, folder, inputs):
        return np.full((len(inputs["image"]), 10), 0.1, np.float32)

    splits = tiny.splits
    result = tune_fusion(tiny.spec, tiny.folder, splits.validation, splits.test, runs=tmp_path, run=flat)
    assert result.choice.decision == "nothing"  # a tenth for each of ten digits is what guessing says


def test_a_place_for_runs_that_cannot_be_written_to_is_a_sentence(tiny, tmp_path):
    taken = tmp_path / "taken"
    taken.touch()
    splits = tiny.splits
    for place, why in ((taken, "File exists"), (taken / "below", "Not a directory")):
        with pytest.raises(TuningError, match=f"runs: .*{why}; give a folder that can be written to"):
            tune_fusion(tiny.spec, tiny.folder, splits.validation, splits.test, runs=place)


def test_a_page_of_many_classes_draws_those_that_gain_and_lose_most_and_keeps_all_in_its_data(tmp_path):
    random = np.random.default_rng(0)
    labels, names = np.repeat(np.arange(60), 5), [f"class {number}" for number in range(60)]
    probs = random.dirichlet(np.ones(60), (2, 300))
    members, (uniform, tuned) = answers(probs, labels), answers([probs.mean(axis=0), probs[1]], labels)
    evidence = Evidence(["a", "b"], members.right, members, uniform, tuned, labels, "a", names)
    figure = class_gains(evidence)
    assert figure.table.num_rows == 60
    svg = figure.svg()
    drawn = [name for name in names if f">{name}<" in svg]
    order = np.argsort(figure.table["gain"].to_numpy())
    assert set(drawn) == {names[index] for index in [*order[:12], *order[-12:]]}
    assert "24 classes of 60" in figure.caption
