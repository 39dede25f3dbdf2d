"""Answers that say how sure they are: sets of classes and intervals of values, by who answered."""

import asyncio

import numpy as np
import orjson
import pytest
from scipy.special import softmax

from quorate.deployments import parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.errors import SpecError
from quorate.fusion.errors import QuorateError
from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.factories.oracle import NAN, NONE
from tests.deployments.support.member_threads import running

CLASSES = ["one", "two", "three"]


def rows(*masks):
    """A row for each mask of members that give NaN in it."""
    return {"row": np.array([[n, NAN if mask else NONE, mask] for n, mask in enumerate(masks, 1)], dtype=np.int64)}


def member(seed, output, outputs):
    config = {"seed": seed, "outputs": outputs, "index": seed}
    return {"model": "graph:linear", "inputs": ["row"], "output": output, "config": config}


def spec_of(name, conformal, output="logits", **fusion):
    classes = {"classes": CLASSES} if output == "logits" else {}
    members = {name: member(seed, output, 3 if classes else 1) for seed, name in enumerate("ab", 1)}
    return {
        "name": name,
        "inputs": {"row": {"datatype": "INT64", "shape": [3]}},
        **classes,
        "members": members,
        "fusion": {"rule": "mean", "conformal": conformal, **fusion},
    }


def ask(spec, inputs):
    async def scenario():
        async with running(spec) as engine:
            return await engine.infer(inputs)

    return asyncio.run(scenario())


def said(seed, count, outputs):
    return evaluate(seed, outputs, [np.arange(1, count + 1, dtype=np.int64)[:, None]])


def thresholds(**by_members):
    return [{"members": list(names), "threshold": value} for names, value in by_members.items()]


def test_an_answer_holds_the_classes_whose_probability_is_enough():
    conformal = {"coverage": 0.9, "thresholds": thresholds(ab=0.62)}
    answer = ask(spec_of("sets", conformal), rows(*[0] * 8))
    fused = (softmax(said(1, 8, 3), axis=1) + softmax(said(2, 8, 3), axis=1)) / 2
    expected = [[name for name, p in zip(CLASSES, row, strict=True) if 1 - p <= 0.62] for row in fused]
    parameters = answer.parameters()
    assert orjson.loads(parameters["prediction_sets"]) == expected
    assert parameters["conformal_coverage"] == 0.9
    assert len({len(one) for one in expected}) > 1


def test_a_row_has_the_threshold_of_those_that_answered_it_and_none_where_none_was_fitted():
    conformal = {"coverage": 0.8, "thresholds": thresholds(ab=0.5, b=1.0)}
    answer = ask(spec_of("left", conformal), rows(0, 1 << 1, 1 << 2))
    both, only_b, only_a = orjson.loads(answer.parameters()["prediction_sets"])
    fused = (softmax(said(1, 1, 3)[0]) + softmax(said(2, 1, 3)[0])) / 2
    assert both == [name for name, p in zip(CLASSES, fused, strict=True) if p >= 0.5]
    assert only_b == CLASSES
    assert only_a is None


def test_thresholds_by_class():
    numbers = {"three": 1.0, "one": 0.0, "two": 0.0}
    conformal = {"coverage": 0.9, "by_class": True, "thresholds": [{"members": ["b", "a"], "threshold": numbers}]}
    answer = ask(spec_of("by-class", conformal), rows(0, 0))
    assert orjson.loads(answer.parameters()["prediction_sets"]) == [["three"], ["three"]]


def test_values_have_intervals():
    conformal = {"coverage": 0.9, "thresholds": thresholds(ab=1.5, a=4.0)}
    answer = ask(spec_of("values", conformal, "values"), rows(0, 1 << 2))
    found = orjson.loads(answer.parameters()["prediction_intervals"])
    one, two = said(1, 2, 1)[:, 0], said(2, 2, 1)[:, 0]
    middle, reach = np.array([(one[0] + two[0]) / 2, one[1]]), np.array([1.5, 4.0])
    np.testing.assert_allclose(found, np.stack([middle - reach, middle + reach], axis=1), rtol=1e-5)


def of_several(name, rule, conformal, outputs):
    """Members that give so many numbers a row."""
    spec = spec_of(name, conformal, "values", rule=rule)
    for one in spec["members"].values():
        one["config"]["outputs"] = outputs
    return spec


def test_several_values_have_an_interval_each():
    conformal = {"coverage": 0.9, "thresholds": thresholds(ab=[1.5, 20.0])}
    answer = ask(of_several("pairs", "mean", conformal, 2), rows(0, 0))
    found = np.array(orjson.loads(answer.parameters()["prediction_intervals"]))
    middle, reach = (said(1, 2, 2) + said(2, 2, 2)) / 2, np.array([1.5, 20.0])
    np.testing.assert_allclose(found, np.stack([middle - reach, middle + reach], axis=2), rtol=1e-5)


def test_thresholds_of_another_number_of_values_are_no_answer(caplog):
    conformal = {"coverage": 0.9, "thresholds": thresholds(ab=[1.0, 1.0, 1.0])}
    with pytest.raises(QuorateError, match="could not be fused"):
        ask(of_several("odd", "mean", conformal, 2), rows(0))
    assert "3 numbers for 2 values; run quorate tune" in caplog.text


def test_means_with_variances_have_intervals_in_standard_deviations():
    conformal = {"coverage": 0.9, "thresholds": thresholds(ab=2.0)}
    answer = ask(of_several("moments", "mixture_moments", conformal, 2), rows(0, 0))
    low, high = np.array(orjson.loads(answer.parameters()["prediction_intervals"])).T
    mean, variance = answer.values.T.astype(float)
    np.testing.assert_allclose((low + high) / 2, mean, rtol=1e-5)
    np.testing.assert_allclose((high - low) / 4, np.sqrt(np.maximum(variance, 1e-12)), rtol=1e-4)


def test_nothing_is_said_where_nothing_was_asked():
    spec = spec_of("silent", None)
    assert not {"prediction_sets", "conformal_coverage"} & set(ask(spec, rows(0)).parameters())


def test_a_spec_without_thresholds_is_not_served(tmp_path):
    spec = parse_spec(spec_of("unfitted", {"coverage": 0.9}))
    with pytest.raises(SpecError, match="run quorate tune"):
        build_revision(spec, tmp_path)


@pytest.mark.parametrize(
    ("conformal", "fusion", "complaint"),
    [
        ({"coverage": 1.0}, {}, "coverage"),
        ({"coverage": 0.9, "thresholds": thresholds(az=0.5)}, {}, "'z' is no member"),
        ({"coverage": 0.9, "thresholds": [*thresholds(ab=0.5), *thresholds(ba=0.5)]}, {}, "twice"),
        ({"coverage": 0.9, "thresholds": thresholds(ab={"one": 0.5})}, {}, "missing"),
        ({"coverage": 0.9, "thresholds": thresholds(ab=-0.5)}, {}, "threshold"),
        ({"coverage": 0.9, "thresholds": thresholds(ab=[0.5, 0.5])}, {}, "several are of members that give several"),
        ({"coverage": 0.9}, {"decision": {"reject_below": 0.5}}, "decision"),
        ({"coverage": 0.9}, {"rule": "threshold"}, "decision"),
        (
            {"coverage": 0.9},
            {"rule": "cascade", "options": {"stages": [["a"], ["b"]], "thresholds": [0.9]}},
            "other members",
        ),
    ],
)
def test_what_cannot_be_promised_is_refused(conformal, fusion, complaint):
    with pytest.raises(SpecError, match=complaint):
        parse_spec(spec_of("refused", conformal, **fusion))


def test_values_have_no_classes_to_make_sets_of():
    with pytest.raises(SpecError, match="the ensemble has classes"):
        parse_spec({**spec_of("refused", {"coverage": 0.9}, "values"), "classes": CLASSES})


def test_values_have_no_classes_to_promise_by():
    with pytest.raises(SpecError, match="values"):
        parse_spec(spec_of("refused", {"coverage": 0.9, "by_class": True}, "values"))
