"""Classes that are answered as others: the product with a matrix, the same wherever a fusion is computed."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.files import dump_spec
from quorate.fusion.calibration.relabelling import Relabelling
from tests.deployments.engine.test_calibration import ROWS, ask, said, spec_of
from tests.deployments.support.factories.oracle import NAN

RELABEL = {"one": {"two": 0.75, "one": 0.25}, "two": "three"}
# Columns are what a class is called now.
MATRIX = np.array([[0.25, 0.0, 0.0], [0.75, 0.0, 0.0], [0.0, 1.0, 1.0]])


def fused():
    return (softmax(said(1), axis=1) + softmax(said(2), axis=1)) / 2


def test_answers_are_those_of_the_members_times_the_matrix():
    answer = ask(spec_of("relabelled", relabel=RELABEL))
    np.testing.assert_allclose(answer.values, fused() @ MATRIX.T, atol=1e-6)
    np.testing.assert_allclose(answer.values.sum(axis=1), 1, atol=1e-6)


def test_a_class_is_relabelled_after_calibration_and_before_anything_is_decided():
    calibrated = softmax(np.log(fused()) / 0.5, axis=1) @ MATRIX.T
    least = float(np.sort(calibrated.max(axis=1))[3:5].mean())
    decided = {"calibration": {"temperature": 0.5}, "decision": {"reject_below": least}}
    answer = ask(spec_of("decided", relabel=RELABEL, **decided))
    unsure = calibrated.max(axis=1) < least
    assert answer.abstained == tuple(np.flatnonzero(unsure).tolist())
    np.testing.assert_allclose(answer.values[~unsure], calibrated[~unsure], atol=1e-5)


def test_whoever_answers_is_relabelled_and_each_row_to_the_bit():
    inputs = {"row": np.array([[n, NAN, 1 << 1] for n in range(1, 9)], dtype=np.int64)}
    answer = ask(spec_of("absent", relabel=RELABEL), inputs)
    np.testing.assert_allclose(answer.values, softmax(said(2), axis=1) @ MATRIX.T, atol=1e-5)
    whole = ask(spec_of("rows", relabel=RELABEL)).values
    for row in range(8):
        alone = ask(spec_of("rows", relabel=RELABEL), {"row": ROWS["row"][row : row + 1]}).values
        np.testing.assert_array_equal(alone[0], whole[row])


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_product_with_any_matrix(seed):
    random = np.random.default_rng(seed)
    matrix = random.dirichlet(np.full(6, 0.3), size=6).T * (random.random((6, 6)) > 0.3) + 1e-9
    matrix /= matrix.sum(axis=0)
    names = [str(one) for one in range(6)]
    relabel = {names[c]: {names[r]: matrix[r, c] for r in random.permutation(6)} for c in random.permutation(6)}
    probs = random.dirichlet(np.ones(6), size=(4, 3)).astype(np.float32)
    found = Relabelling.from_spec(relabel, names).apply(torch.from_numpy(probs)).numpy()
    np.testing.assert_allclose(found, probs @ matrix.T, atol=1e-6)


def test_names_of_revisions_are_what_they_were_and_a_relabelled_one_is_another():
    plain, other = parse_spec(spec_of("named")), parse_spec(spec_of("named", relabel=RELABEL))
    assert "relabel" not in dump_spec(plain)
    assert plain.revision != other.revision
    again = parse_spec(spec_of("named", relabel={"two": {"three": 1}, "one": {"one": 0.25, "two": 0.75}}))
    assert again.fusion == other.fusion


VALUES = {"output": "values", "config": {"seed": 1, "outputs": 3, "index": 1}}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"relabel": {"on": "two"}}, r"fusion\.relabel\.on: 'on' is not among the ensemble's classes.*one"),
        ({"relabel": {"one": {"too": 1}}}, r"relabel\.one: 'too' is not among"),
        ({"relabel": {"one": {"two": 0.5, "three": 0.4}}}, r"shares of 'one' have the sum 0\.9.*sum 1"),
        ({"relabel": {"one": "one"}}, r"'one' is answered as itself.*remove it"),
        ({"relabel": {"one": {"two": 1.5, "one": -0.5}}}, r"relabel"),
        ({"relabel": {"one": {}}}, r"relabel"),
        ({"relabel": RELABEL, "rule": "threshold", "options": {"threshold": 0.5}}, r"decisions, not probabilities"),
        ({"relabel": RELABEL, "conformal": {"coverage": 0.9}}, r"sets of classes.*quorate tune"),
    ],
)
def test_what_cannot_be_relabelled_is_refused_with_what_to_do(changed, wanted):
    with pytest.raises(SpecError, match=wanted):
        parse_spec(spec_of("refused", **changed))


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_answers_that_are_not_one_of_several_classes_are_not_relabelled(task):
    plain = {**spec_of("refused", relabel=RELABEL), "task": task}
    if task == "regression":
        plain["members"] = {name: {**one, "output": "values"} for name, one in plain["members"].items()}
        del plain["classes"]
    with pytest.raises(SpecError, match=r"fusion\.relabel: .*one of several classes"):
        parse_spec(plain)


def test_only_the_answer_is_relabelled():
    plain = spec_of("inner")
    del plain["fusion"]
    plain["fusions"] = {
        "inside": {"rule": "mean", "members": ["a", "b"], "relabel": RELABEL},
        "outside": {"rule": "mean", "members": ["a", "b"]},
    }
    with pytest.raises(SpecError, match=r"fusions\.inside\.relabel.*write it under outside"):
        parse_spec(plain)
