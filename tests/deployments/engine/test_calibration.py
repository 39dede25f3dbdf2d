"""Calibration before and after fusing, thresholds and abstention: numbers of a revision, applied to every answer."""

import asyncio

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import softmax

from quorate.deployments import load_spec, parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.files import dump_spec
from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.factories.oracle import NAN, NONE
from tests.deployments.support.member_threads import running

CLASSES = ["one", "two", "three"]
ROWS = {"row": np.array([[n, NONE, 0] for n in range(1, 9)], dtype=np.int64)}


def member(seed, **rest):
    config = {"seed": seed, "outputs": 3, "index": seed}
    return {"model": "graph:linear", "inputs": ["row"], "output": "logits", "config": config, **rest}


def spec_of(name, **fusion):
    return {
        "name": name,
        "inputs": {"row": {"datatype": "INT64", "shape": [3]}},
        "classes": CLASSES,
        "members": {"a": member(1), "b": member(2)},
        "fusion": {"rule": "mean", **fusion},
    }


def ask(spec, inputs=ROWS, **options):
    async def scenario():
        async with running(spec) as engine:
            return await engine.infer(inputs, **options)

    return asyncio.run(scenario())


def said(seed):
    """(B, C) logits, the member's own."""
    return evaluate(seed, 3, [ROWS["row"][:, :1]])


def test_temperature_of_a_member_softens_it_before_it_is_fused():
    answer = ask(spec_of("before", member_calibration={"a": {"temperature": 2.5}}), explain=True)
    expected = (softmax(said(1) / 2.5, axis=1) + softmax(said(2), axis=1)) / 2
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)
    # What a member said is shown as it said it.
    np.testing.assert_allclose(answer.explanation.outputs["a"], softmax(said(1), axis=1), atol=1e-6)


def test_bias_and_scale_by_class_shape_the_fused_answer():
    scale, bias = {"three": 0.5, "one": 2.0, "two": 1.0}, {"one": 0.3, "two": -0.3, "three": 0.0}
    answer = ask(spec_of("after", calibration={"scale": scale, "bias": bias}))
    fused = (softmax(said(1), axis=1) + softmax(said(2), axis=1)) / 2
    expected = softmax(np.log(fused) * [2.0, 1.0, 0.5] + [0.3, -0.3, 0.0], axis=1)
    np.testing.assert_allclose(answer.values, expected, atol=1e-5)


def test_absent_member_is_left_out_of_a_calibrated_answer_too():
    inputs = {"row": np.array([[n, NAN, 1 << 1] for n in range(1, 9)], dtype=np.int64)}
    answer = ask(spec_of("absent", member_calibration={"b": {"temperature": 0.5}}), inputs)
    assert set(answer.members_used) == {"b"}
    np.testing.assert_allclose(answer.values, softmax(said(2) / 0.5, axis=1), atol=1e-5)


def test_row_that_is_not_sure_enough_abstains_and_says_so():
    fused = (softmax(said(1), axis=1) + softmax(said(2), axis=1)) / 2
    least = float(np.sort(fused.max(axis=1))[3:5].mean())
    answer = ask(spec_of("unsure", decision={"reject_below": least}))
    unsure = np.flatnonzero(fused.max(axis=1) < least)
    assert answer.abstained == tuple(unsure.tolist())
    assert len(unsure) == 4
    assert not answer.values[unsure].any()
    assert answer.parameters()["rows_abstained"] == " ".join(map(str, unsure))


def test_thresholds_by_class_decide_on_calibrated_probabilities():
    thresholds = {"three": 0.3, "two": 0.6, "one": 0.2}
    answer = ask(spec_of("decided", calibration={"temperature": 3.0}, decision={"thresholds": thresholds}))
    fused = (softmax(said(1), axis=1) + softmax(said(2), axis=1)) / 2
    assert np.array_equal(answer.values, softmax(np.log(fused) / 3, axis=1) >= [0.2, 0.6, 0.3])
    assert answer.values.any()
    assert not answer.values.all()


def test_other_numbers_are_another_revision_and_no_member_restarts():
    plain = parse_spec(spec_of("tuned"))
    tuned = parse_spec(spec_of("tuned", calibration={"temperature": 2.0}, member_calibration={"a": {"temperature": 3}}))
    assert tuned.revision != plain.revision
    assert tuned.wiring == plain.wiring
    assert [tuned.job(name) for name in tuned.members] == [plain.job(name) for name in plain.members]

    async def scenario():
        async with running(spec_of("tuned")) as engine:
            before = await engine.infer(ROWS)
            engine.revisions.commit(engine.prepare(tuned))
            return before, await engine.infer(ROWS)

    before, after = asyncio.run(scenario())
    assert (before.revision, after.revision) == (plain.revision, tuned.revision)
    assert np.abs(before.values - after.values).max() > 0.01


def test_cascade_is_sure_of_what_its_members_mean_calibrated():
    """A cheap member that is overconfident leaves rows to the dear one once it is calibrated."""
    options = {"stages": [["a"], ["b"]], "thresholds": [0.7]}
    answer = ask(spec_of("cascaded", rule="cascade", options=options, member_calibration={"a": {"temperature": 50.0}}))
    assert set(answer.members_used) == {"a", "b"}
    expected = (softmax(said(1) / 50, axis=1) + softmax(said(2), axis=1)) / 2
    np.testing.assert_allclose(answer.values, expected, atol=1e-5)


def test_long_calibration_comes_from_a_file(tmp_path):
    file = tmp_path / "bias.safetensors"
    save_file({"scale": torch.tensor([0.5]), "bias": torch.tensor([0.5, 0.0, -0.5])}, str(file))
    answer = ask(spec_of("filed", calibration={"state": str(file)}))
    fused = (softmax(said(1), axis=1) + softmax(said(2), axis=1)) / 2
    expected = softmax(np.log(fused) / 2 + [0.5, 0.0, -0.5], axis=1)
    np.testing.assert_allclose(answer.values, expected, atol=1e-5)
    save_file({"bias": torch.zeros(4)}, str(file))
    with pytest.raises(SpecError, match="bias"):
        build_revision(parse_spec(spec_of("filed", calibration={"state": str(file)})), tmp_path)


def test_file_of_a_calibration_that_is_not_there_is_named(tmp_path):
    spec = parse_spec(spec_of("missing", calibration={"state": "nowhere.safetensors"}))
    path = tmp_path / "spec.yaml"
    path.write_text(dump_spec(spec).replace("graph:linear", "math:sqrt"))
    with pytest.raises(SpecError, match=r"fusion\.calibration\.state: there is no file"):
        load_spec(path)


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        ({"calibration": {"temperature": 0}}, r"calibration\.temperature"),
        ({"calibration": {"temperature": float("inf")}}, r"calibration\.temperature"),
        ({"calibration": {}}, "it is empty"),
        ({"calibration": {"temperature": 2, "scale": dict.fromkeys(CLASSES, 1)}}, "do not go together"),
        ({"calibration": {"bias": {"one": 1, "two": 0}}}, r"bias\.three: its number is missing"),
        ({"calibration": {"bias": {"one": 1, "two": 0, "three": 0, "four": 1}}}, r"bias\.four: .*not among"),
        ({"calibration": {"bias": {"one": 1, "two": float("nan"), "three": 0}}}, r"bias\.two: it is nan"),
        ({"calibration": {"state": "bias.pt"}}, "not a .safetensors"),
        ({"member_calibration": {"c": {"temperature": 2}}}, "'c' is no member"),
        ({"decision": {}}, "it is empty"),
        ({"decision": {"thresholds": {"one": 0.5}}}, r"thresholds\.two"),
        ({"decision": {"reject_below": -1}}, "reject_below"),
        ({"rule": "threshold", "calibration": {"temperature": 2}}, "gives decisions"),
        ({"rule": "weighted_vote"}, "weighted_vote has no weights; .*majority_vote"),
        ({"rule": "bayesian_model_combination"}, "has no weights; .*mean"),
    ],
)
def test_calibration_that_cannot_be_meant_is_refused(fusion, message):
    with pytest.raises(SpecError, match=message):
        parse_spec(spec_of("refused", **fusion))


def test_numbers_that_are_no_probabilities_are_not_calibrated():
    spec = spec_of("values", calibration={"temperature": 2})
    spec["members"] = {name: {**m, "output": "values"} for name, m in spec["members"].items()}
    with pytest.raises(SpecError, match="gives values, not probabilities"):
        parse_spec(spec)
