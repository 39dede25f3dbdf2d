"""Several outputs in one answer: each has its own rule, members, deadline and accounts."""

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from quorate.deployments.errors import RequestError
from tests.deployments.support.desk import MOODS, ROWS, expected, known
from tests.deployments.support.waiting import until


def test_each_output_is_its_own_fusion_and_says_so(client):
    answer = client.infer(x=ROWS)
    assert list(answer.outputs) == ["mood", "topic", "only", "score"]
    used = {name: answer[name].parameters["members_used"] for name in answer.outputs}
    assert used == {"mood": "a,b", "topic": "a,late,picky", "only": "late", "score": "number"}
    for name in answer.outputs:
        result = answer[name]
        np.testing.assert_allclose(result.outputs[name], expected(name, result.parameters), rtol=1e-5)
        assert result.classes == (() if name == "score" else tuple(MOODS))
    assert answer.parameters["members_used"] == "a,b,late,number,picky"
    assert len({said["revision"] for said in (answer.parameters, *answer.output_parameters.values())}) == 1


def test_outputs_are_asked_for_by_name(client):
    assert list(client.infer(x=ROWS, outputs=["score", "mood"]).outputs) == ["score", "mood"]
    with pytest.raises(RequestError, match="unexpected inference output 'fused' for model 'desk'; it gives mood"):
        client.infer(x=ROWS, outputs=["fused"])


def test_a_member_of_two_outputs_is_asked_once(client, switch):
    client.infer(x=ROWS)
    log = switch.with_name(f"{switch.name}.log")
    before = len(log.read_text().splitlines())
    client.infer(x=ROWS, outputs=["topic", "only"])
    assert len(log.read_text().splitlines()) == before + len(ROWS)


def test_rows_that_one_member_cannot_answer_are_missing_from_its_output_alone(client):
    rows = ROWS.copy()
    rows[3, 0] = 14  # picky gives NaN
    answer = client.infer(x=rows)
    topic = answer["topic"].parameters
    assert (topic["members_missing"], topic["rows_missing"]) == ("picky:nonfinite", "picky:3")
    assert "rows_missing" not in answer["mood"].parameters
    others = np.delete(np.arange(len(rows)), 3)
    np.testing.assert_allclose(answer.outputs["topic"][others], expected("topic", topic, rows)[others], rtol=1e-5)
    without = (known(1, rows[3:4]) + known(3, rows[3:4])) / 2
    np.testing.assert_allclose(answer.outputs["topic"][3:4], without, rtol=1e-5)


def test_members_and_explanations_are_those_of_each_output(client):
    answer = client.infer(x=ROWS, members="a", explain=True)
    assert list(answer.output_parameters) == ["mood", "topic"]
    np.testing.assert_allclose(answer["mood"].outputs["a.output"], known(1), rtol=1e-5)
    np.testing.assert_allclose(answer["topic"].outputs["a.contribution"], np.ones(len(ROWS)))
    with pytest.raises(RequestError, match="parameter members names none of output 'only'; add one of late"):
        client.infer(x=ROWS, members="a", outputs=["only"])
    assert len(answer.tables()) == 4
    assert {"mood.label", "topic.label", "mood.sad"} <= set(answer.to_pandas().columns)


def counted(desk):
    """Answers by output, outcome and reason, without zeros."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"{desk.http}/metrics").text):
        for one in family.samples:
            if one.name == "quorate_output_answers_total" and one.value:
                found[one.labels["output"], one.labels["outcome"], one.labels["reason"]] = one.value
    return found


def test_metrics_count_what_became_of_each_output(desk, client, switch):
    until(lambda: not client.infer(x=ROWS).parameters["degraded"])
    before = counted(desk)
    client.infer(x=ROWS)
    client.infer(x=ROWS, outputs=["mood"])
    switch.write_text("hold")
    try:
        client.infer(x=ROWS)
    finally:
        switch.write_text("0")
        until(lambda: not client.infer(x=ROWS, outputs=["topic"]).parameters["degraded"])
    rows = ROWS.copy()
    rows[:, 0] = 13  # nobody of topic but a and late takes them
    client.infer(x=rows, outputs=["topic"])
    after = counted(desk)
    more = {key: after[key] - before.get(key, 0) for key in after}
    assert more["mood", "full", ""] == 3
    assert more["score", "full", ""] == 2
    assert (more["only", "full", ""], more["only", "error", "deadline"]) == (1, 1)
    assert more["topic", "degraded", "deadline"] >= 1
    assert more["topic", "degraded", "error"] == 1
