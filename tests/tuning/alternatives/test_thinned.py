"""Who is left out first under too much load: by what others' answers lose without a member, for its time."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from quorate.deployments import load_model, load_spec
from quorate.deployments.members.predictor import Predictor
from quorate.tuning.alternatives.thinned import fit_thinned
from quorate.tuning.runs.run_folder import other_spec
from quorate.tuning.workflows.tune_fusion import tune_fusion
from tests.tuning.support.big_ensemble import big_ensemble

WORTH = {"tree": 1.0, "cnn": 3.0, "transformer": 4.0}
MS = {"tree": 1.0, "cnn": 2.0, "transformer": 10.0}


def loss(left):
    """As if what members know added up."""
    return {"loss": 10.0 - sum(WORTH[name] for name in WORTH if left is None or name in left)}


@pytest.mark.parametrize(
    ("quorum", "required", "order"),
    [(1, (), ["transformer", "tree"]), (2, (), ["transformer"]), (3, (), []), (1, ("transformer",), ["tree", "cnn"])],
)
def test_the_least_worth_for_its_time_goes_first_down_to_the_quorum(quorum, required, order):
    found = fit_thinned(loss, lambda metrics: metrics["loss"], list(WORTH), MS, quorum, required)
    assert [name for name, _ in found.steps] == order
    assert found.expected == {"loss": 2.0}
    left = set(WORTH)
    for name, metrics in found.steps:
        left.remove(name)
        assert metrics == loss(left)


def test_a_member_that_does_harm_goes_before_all_others():
    worth = {"good": 3.0, "bad": -1.0}

    def without(left):
        return {"loss": -sum(worth[name] for name in worth if left is None or name in left)}

    assert (
        fit_thinned(without, lambda found: found["loss"], list(worth), {"good": 9.0, "bad": 1.0}).steps[0][0] == "bad"
    )


def test_a_tuned_spec_says_what_answers_are_worth_with_fewer_members(tmp_path):
    spec, rows = big_ensemble(tmp_path, 3, 900, 5)
    spec = spec.model_copy(update={"fusion": spec.fusion.model_copy(update={"overload": "thin"})})
    judge = rows.rows(slice(450, 900))
    result = tune_fusion(spec, tmp_path, rows.rows(slice(0, 450)), judge, runs=tmp_path / "runs")
    uniform = load_spec(result.folder / other_spec("uniform"))
    assert uniform.output_fusion.overload == "thin"
    thinning = uniform.output_fusion.thinning
    said = {name: answered(spec.job(name), tmp_path, judge) for name in spec.members}
    for expected, gone in [(thinning.expected, ""), *((step.expected, step.without) for step in thinning.steps)]:
        said.pop(gone, None)
        mean = np.mean(list(said.values()), axis=0, dtype=np.float64)
        assert expected["accuracy"] == pytest.approx(accuracy_score(judge.labels, mean.argmax(axis=1)))
        mean /= mean.sum(axis=1, keepdims=True)
        assert expected["log_loss"] == pytest.approx(log_loss(judge.labels, mean, labels=range(5)), abs=1e-5)
    assert len(said) == 1
    assert result.choice.refitted  # and what was fitted again on the judging rows says it, too
    for name, recipe in result.choice.served.items():
        if len(recipe.asked) > 1:
            assert recipe.thinned is not None, name
            assert {step for step, _ in recipe.thinned.steps} < set(recipe.asked)


def answered(job, folder, rows):
    """(N, C) probabilities of a member."""
    return Predictor(load_model(job.name, job.member, folder), job).run(rows.inputs, probabilities=True)[0]
