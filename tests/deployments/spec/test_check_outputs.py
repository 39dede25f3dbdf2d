"""Specs of several outputs: each names a fusion with classes that its members know; the mistakes and their fixes."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError


def member(*inputs, **fields):
    return {"model": "m:f", "inputs": list(inputs or ("x",)), "output": "probabilities", **fields}


def spec(**changes):
    fusions = {
        "mood": {"rule": "mean", "members": ["a", "b"], "classes": ["sad", "glad"], "deadline_s": 0.5},
        "topic": {"rule": "mean", "members": ["c"], "classes": ["art", "sport", "war"], "deadline_s": 2.0},
    }
    return {
        "name": "desk",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {"a": member(), "b": member(), "c": member()},
        "fusions": fusions,
        "outputs": ["mood", "topic"],
        **changes,
    }


def changed(fusion, **fields):
    found = spec()
    found["fusions"][fusion] |= fields
    return found


def test_members_align_their_columns_with_the_classes_of_their_own_output():
    found = parse_spec(spec())
    assert {name: found.job(name).classes for name in "abc"} == {
        "a": ("sad", "glad"), "b": ("sad", "glad"), "c": ("art", "sport", "war"),
    }  # fmt: skip
    assert (found.output_name, found.output_names) == ("mood", ("mood", "topic"))
    assert found.view("topic").output_fusion.deadline_s == 2.0


def test_an_output_without_classes_of_its_own_has_the_ensembles():
    found = spec(classes=["no", "yes"])
    del found["fusions"]["mood"]["classes"]
    assert parse_spec(found).job("a").classes == ("no", "yes")


def test_a_trunk_serves_heads_of_several_outputs_and_its_fusion_shares_the_shorter_deadline():
    found = spec()
    found["members"] = {
        "trunk": member(output="features"), "a": member("base"), "b": member("base"), "c": member("base"),
    }  # fmt: skip
    found["fusions"] = {"base": {"rule": "concat", "members": ["trunk"], "options": {"widths": {"trunk": 4}}}} | found[
        "fusions"
    ]
    assert parse_spec(found).fusions["base"].deadline_s == 0.25


def test_each_output_has_a_task_of_its_own():
    """Labels that each hold or not beside quantiles, beside one score a row that ranks them."""
    found = spec(members={"a": member(), "b": member(), "c": member(output="values"), "d": member(output="values")})
    found["fusions"]["mood"] |= {"task": "multilabel"}
    found["fusions"]["topic"] = {"rule": "quantile_average", "members": ["c"], "quantiles": [0.1, 0.5, 0.9]}
    found["fusions"]["rank"] = {"rule": "list_reciprocal_rank", "members": ["d"]}
    several = parse_spec({**found, "outputs": ["mood", "topic", "rank"]})
    assert {name: several.view(name).inferred_task for name in several.outputs} == {
        "mood": "multilabel", "topic": "quantiles", "rank": "ranking",
    }  # fmt: skip
    assert several.view("topic").quantiles == (0.1, 0.5, 0.9)
    found["fusions"]["topic"]["quantiles"] = [0.2, 0.5, 0.8]
    assert parse_spec({**found, "outputs": ["mood", "topic", "rank"]}).wiring != several.wiring


def test_classes_of_the_ensemble_are_none_of_an_output_of_values():
    found = spec(classes=["no", "yes"], members={"a": member(), "b": member(), "c": member(output="values")})
    del found["fusions"]["topic"]["classes"], found["fusions"]["mood"]["classes"]
    assert (parse_spec(found).view("topic").classes, parse_spec(found).view("mood").classes) == (None, ("no", "yes"))


def test_which_outputs_there_are_is_part_of_the_revision_and_of_the_wiring():
    one, other = parse_spec(spec()), parse_spec(spec(outputs=["topic", "mood"]))
    assert one.revision != other.revision
    assert one.wiring != other.wiring


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (spec(output="mood"), "outputs: output is given as well; remove one of the two"),
        (spec(outputs=["mood", "topics"]), "outputs[1]: 'topics' is not a fusion; did you mean 'topic'?"),
        (spec(outputs=["mood", "topic", "mood"]), "outputs[2]: 'mood' is there twice"),
        (spec(outputs=["mood"]), "fusions.topic.classes: only one of several outputs has its own"),
        (spec(task="multilabel"), "task: each of several outputs has its own; write it under the fusion: fusions.mood"),
        (spec(quantiles=[0.1, 0.9]), "quantiles: each of several outputs has its own"),
        (changed("topic", task="tagging"), "fusions.topic.task: rows of tokens are batched by their lengths"),
        (changed("topic", task="binary"), "fusions.topic.classes: 3, and the task is binary"),
        (changed("topic", task="regression"), "fusions.topic.task: it is regression, but 'c' gives probabilities"),
        (changed("topic", quantiles=[0.1, 0.9]), "fusions.topic.task: it is quantiles, but 'c' gives probabilities"),
        (changed("topic", task="quantiles", classes=None), "fusions.topic.task: it is quantiles, but 'c' gives"),
        (
            spec(members={"a": member(), "b": member(), "c": member(output="values")}),
            "fusions.topic.classes: its members give values; remove classes",
        ),
        (changed("topic", members=["b", "c"]), "members.b: outputs 'mood' and 'topic' have other classes"),
        (changed("topic", decision={"thresholds": {"sad": 0.5}}), "fusions.topic.decision.thresholds.sad"),
        (
            spec(members={"a": member(classes=["glad", "bored"]), "b": member(), "c": member()}),
            "members.a.classes: bored is not among the classes of the output that it is fused into",
        ),
    ],
)
def test_mistakes_are_told_with_their_fix(broken, sentence):
    with pytest.raises(SpecError) as error:
        parse_spec(broken)
    assert sentence in str(error.value)


def test_a_fusion_that_nothing_reads_and_no_output_names_is_refused():
    fusions = {name: {**fusion, "classes": None} for name, fusion in spec()["fusions"].items()}
    with pytest.raises(SpecError, match="remove it, or add it to outputs: topic"):
        parse_spec(spec(outputs=["mood"], fusions=fusions, classes=["no", "yes"]))
