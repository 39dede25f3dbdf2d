"""META-DES, against DESlib's figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from quorate.fusion import MetaDes, fit_meta_des
from quorate.fusion.errors import RuleOptionError, ShapeError
from quorate.fusion.loading import load_rule
from tests.fusion.learned.test_dynamic_selection import NAMES, queries, table
from tests.fusion.support.contract import assert_same_bits

# DESlib 0.3.7, METADES(k=7, Kp=5, voting="soft", mode="selection") fitted on the first 60 rows of `table()`: of the
# last six the competence by row and member, and predict_proba.
COMPETENCE = [
    [0.638128, 0.998934, 0.991979, 0.993171],
    [0.046376, 0.261232, 0.22693, 0.927918],
    [0.999636, 0.965492, 0.143553, 0.995505],
    [0.601381, 0.832774, 0.520025, 0.621252],
    [0.862459, 0.275431, 0.372439, 0.748256],
    [0.514756, 0.005565, 0.981966, 0.928306],
]
FUSED = [
    [0.606315, 0.12798, 0.265705],
    [0.104558, 0.737506, 0.157936],
    [0.190965, 0.167767, 0.641269],
    [0.399914, 0.234156, 0.36593],
    [0.171446, 0.210662, 0.617892],
    [0.507486, 0.169604, 0.32291],
]


@pytest.fixture(scope="module")
def rule() -> MetaDes:
    inputs, labels, probs = (torch.from_numpy(part) for part in table())
    return fit_meta_des(NAMES, inputs[:60], probs[:, :60], labels[:60], input_name="x")


def test_a_member_is_as_competent_as_deslib_finds_it(rule: MetaDes) -> None:
    inputs, outputs = queries()
    np.testing.assert_allclose(rule.competence(inputs, outputs).T, COMPETENCE, atol=1e-5)


def test_the_answer_is_the_mean_of_those_that_deslib_selects(rule: MetaDes) -> None:
    inputs, outputs = queries()
    np.testing.assert_allclose(rule.fuse(outputs, None, inputs).values, FUSED, atol=2e-5)


def test_everybody_is_asked_since_who_is_competent_follows_from_what_all_say(rule: MetaDes) -> None:
    assert rule.select(queries()[0]).all()


def test_who_is_missing_has_no_part_in_it_and_who_is_left_alone_is_the_answer(rule: MetaDes) -> None:
    inputs, outputs = queries()
    there = torch.ones(4, 6, dtype=torch.bool)
    there[2] = False
    spoiled = outputs.clone()
    spoiled[2] = float("nan")
    assert_same_bits(rule.fuse(spoiled, None, inputs), rule.fuse(outputs, there, inputs))
    alone = torch.zeros(4, 6, dtype=torch.bool).index_fill(0, torch.tensor(1), True)
    torch.testing.assert_close(rule.fuse(outputs, alone, inputs).values, outputs[1].float())


def test_spec_and_state_build_the_same_rule_again_in_any_order(rule: MetaDes) -> None:
    inputs, outputs = queries()
    spec, state = json.loads(json.dumps(rule.to_spec(NAMES))), load(save(rule.state()))
    again = load_rule(spec["rule"]).from_spec(["d", "b", "a", "c"], None, spec["options"], state)
    assert isinstance(again, MetaDes)
    assert torch.equal(again.fuse(outputs[[3, 1, 0, 2]], None, inputs).values, rule.fuse(outputs, None, inputs).values)


def test_what_does_not_fit_is_refused(rule: MetaDes) -> None:
    inputs, labels, probs = (torch.from_numpy(part) for part in table())
    with pytest.raises(RuleOptionError, match="alike"):
        fit_meta_des(NAMES, inputs, probs, labels, input_name="x", alike=0)
    with pytest.raises(ShapeError, match="inputs"):
        rule.fuse(probs, None, inputs[:, :2])
    with pytest.raises(RuleOptionError, match="input_name"):
        MetaDes.from_spec(NAMES, None, {}, rule.state())
