"""The task of a spec: what goes with it, and which it is where none is named."""

import pytest
import yaml

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.files import dump_spec


def spec_of(output="values", rule="mean", **more):
    member = {"model": "graph:linear", "inputs": ["row"], "output": output}
    return {
        "name": "spec",
        "inputs": {"row": {"datatype": "FP32", "shape": [3]}},
        "members": {"a": member, "b": member},
        "fusion": {"rule": rule},
        **more,
    }


CLASSES = {"output": "logits", "classes": ["x", "y", "z"]}
QUANTILES = {"rule": "quantile_average", "quantiles": [0.1, 0.9]}


@pytest.mark.parametrize(
    ("given", "task"),
    [
        (CLASSES, "classification"),
        ({**CLASSES, "task": "multilabel"}, "multilabel"),
        ({}, "regression"),
        (QUANTILES, "quantiles"),
        ({"rule": "list_borda"}, "ranking"),
        ({"task": "ranking"}, "ranking"),
    ],
)
def test_the_task_is_named_or_told_by_the_rest(given, task):
    spec = parse_spec(spec_of(**given))
    assert spec.inferred_task == task
    assert parse_spec(yaml.safe_load(dump_spec(spec))).inferred_task == task


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"task": "guessing"}, "task: found 'guessing'"),
        ({"task": "classification"}, "task: it is classification, but 'a' gives values"),
        ({**CLASSES, "task": "binary"}, "classes: 3, and the task is binary"),
        ({"classes": ["x", "y"], "task": "ranking"}, "task: it is ranking, but there are classes"),
        ({"classes": ["x", "y"], **QUANTILES}, "task: it is quantiles, but there are classes"),
        ({"output": "features", "rule": "feature_mean", "task": "ranking"}, "it is ranking, but 'a' gives features"),
        ({"task": "quantiles", "rule": "quantile_average"}, "quantiles: there are none, and the task is quantiles"),
        ({**QUANTILES, "task": "regression"}, "quantiles: the task is regression"),
        ({**QUANTILES, "quantiles": [0.9, 0.1]}, "give levels above 0 and below 1, ascending"),
        ({**QUANTILES, "quantiles": [0.5, 1.0]}, "give levels above 0 and below 1, ascending"),
        ({**QUANTILES, "rule": "mean"}, "rule 'mean' fuses may cross; use one of quantile_average, quantile_median"),
        ({"task": "regression", "rule": "list_borda"}, "task: it is regression, but rule 'list_borda' ranks rows"),
    ],
)
def test_what_does_not_go_with_the_task_is_refused(given, sentence):
    with pytest.raises(SpecError, match=sentence):
        parse_spec(spec_of(**given))


def test_levels_of_quantiles_are_part_of_a_revision():
    spec = parse_spec(spec_of(**QUANTILES))
    assert parse_spec(spec_of(**{**QUANTILES, "quantiles": [0.2, 0.9]})).revision != spec.revision
