"""Gates, cascades and bandits: which members are asked for which rows, and what is answered."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import softmax

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.fusion.learned.bandit import fit_bandit
from quorate.fusion.learned.cascade import Cascade
from quorate.fusion.learned.dynamic_selection import fit_dynamic_selection
from quorate.fusion.learned.gate import fit_gate
from quorate.fusion.learned.meta_des import fit_meta_des
from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.factories.oracle import NONE, RAISE, SLEEP
from tests.deployments.support.graphs import IN, ask, first, member, rows_of, spec_of

pytestmark = pytest.mark.long

EXPERTS = ("e0", "e1", "e2")


@pytest.fixture(params=["gate", "dynamic_selection"])
def gated(request, tmp_path):
    """Three experts on a line, each best in its third; what was learned of that asks the nearest."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(600, 1, generator=generator) * 3
    right = x.squeeze(1).long()
    outputs = torch.full((3, 600, 3), 0.1)
    outputs[:, :, 0] = 0.8
    outputs[right, torch.arange(600)] = torch.tensor([0.1, 0.8, 0.1])
    labels = torch.ones(600, dtype=torch.long)
    if request.param == "gate":
        gate = fit_gate(EXPERTS, x, outputs, labels, input_name="x", top_k=1, hidden=16)
    else:
        gate = fit_dynamic_selection(EXPERTS, x, outputs, labels, input_name="x", top_k=1)
    save_file(gate.state(), tmp_path / "gate.safetensors")
    inputs = {"row": IN["row"], "x": {"datatype": "FP32", "shape": [1]}}
    members = {
        name: member(number, ["row"], "logits", index=number, log=str(tmp_path / name))
        for number, name in enumerate(EXPERTS)
    }
    fusion = {
        "rule": request.param,
        "options": dict(gate.options),
        "state": str(tmp_path / "gate.safetensors"),
        "deadline_s": 4.0,
    }
    spec = spec_of(members, inputs=inputs, fusion=fusion)

    def calls(name):
        log = tmp_path / name
        return [int(rows) for rows in log.read_text().split()] if log.exists() else []

    return spec, gate, calls


def _on_the_line(*places, command=NONE, mask=0):
    rows = rows_of(*((n, command, mask) for n in range(1, len(places) + 1)))
    return {**rows, "x": np.array(places, dtype=np.float32)[:, None]}


def test_gate_calls_only_the_experts_of_the_rows(gated):
    spec, gate, calls = gated
    inputs = _on_the_line(0.5, 0.4, 2.5)
    chosen = gate.select(torch.from_numpy(inputs["x"])).numpy()
    assert chosen.tolist() == [[True, True, False], [False] * 3, [False, False, True]]
    answer = ask(spec, inputs)
    outputs = [softmax(evaluate(n, 3, [first(inputs)]), axis=1) for n in range(3)]
    np.testing.assert_allclose(answer.values, np.where([[True], [True], [False]], outputs[0], outputs[2]), atol=1e-6)
    assert not answer.degraded
    assert answer.members_used == ("e0", "e2")
    assert (calls("e0"), calls("e1"), calls("e2")) == ([2], [], [1])


def test_next_best_expert_takes_the_place_of_one_that_fails(gated):
    spec, gate, _ = gated
    inputs = _on_the_line(0.5, 2.5, command=RAISE, mask=0b001)
    answer = ask(spec, inputs)
    assert dict(answer.members_missing) == {"e0": "error"}
    up = torch.tensor([False, True, True])
    substitute = gate.select(torch.from_numpy(inputs["x"]), up).numpy()[:, 0].argmax()
    expected = softmax(evaluate(int(substitute), 3, [first(inputs)]), axis=1)
    np.testing.assert_allclose(answer.values[0], expected[0], atol=1e-6)


def test_gate_that_reads_no_input_of_the_request_is_refused(gated):
    spec = gated[0]
    spec["fusion"]["options"]["input_name"] = "y"
    with pytest.raises(SpecError, match="'y' is no request input"):
        parse_spec(spec)


def test_of_members_that_have_all_answered_those_are_fused_that_are_held_for_right(tmp_path):
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.uniform(0, 3, (300, 1))).float()
    right = x.squeeze(1).long()
    outputs = torch.full((3, 300, 3), 0.1)
    outputs[:, :, 0] = 0.8
    outputs[right, torch.arange(300)] = torch.tensor([0.1, 0.8, 0.1])
    rule = fit_meta_des(EXPERTS, x, outputs, torch.ones(300, dtype=torch.long), input_name="x")
    save_file(rule.state(), tmp_path / "meta.safetensors")
    members = {name: member(number, ["row"], "logits", index=number) for number, name in enumerate(EXPERTS)}
    fusion = {"rule": "meta_des", "options": rule.options, "state": str(tmp_path / "meta.safetensors")}
    inputs = {"row": IN["row"], "x": {"datatype": "FP32", "shape": [1]}}
    asked = _on_the_line(0.5, 1.5, 2.5)
    answer = ask(spec_of(members, inputs=inputs, fusion={**fusion, "deadline_s": 4.0}), asked)
    said = torch.from_numpy(np.stack([softmax(evaluate(n, 3, [first(asked)]), axis=1) for n in range(3)]))
    expected = rule.fuse(said, None, torch.from_numpy(asked["x"])).values
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)
    assert answer.members_used == EXPERTS


def _cascade(tmp_path, threshold, **fusion):
    members = {
        name: member(number, ["row"], "logits", index=number, log=str(tmp_path / name))
        for number, name in enumerate(("cheap", "dear"))
    }
    options = {"stages": [["cheap"], ["dear"]], "thresholds": [threshold]}
    return spec_of(members, fusion={"rule": "cascade", "options": options, "deadline_s": 2.0, **fusion})


def test_cascade_asks_dear_members_only_for_rows_that_are_not_clear(tmp_path):
    inputs = rows_of(*((n, NONE, 0) for n in range(-6, 7) if n))
    outputs = np.stack([softmax(evaluate(n, 3, [first(inputs)]), axis=1) for n in range(2)])
    threshold = float(np.median(outputs[0].max(axis=1)))
    answer = ask(_cascade(tmp_path, threshold), inputs)
    rule = Cascade(["cheap", "dear"], [["cheap"], ["dear"]], [threshold])
    np.testing.assert_allclose(answer.values, rule.fuse(torch.from_numpy(outputs)).values.numpy(), atol=1e-6)
    unclear = int((outputs[0].max(axis=1) < threshold).sum())
    assert 0 < unclear < 12
    assert [int(n) for n in (tmp_path / "dear").read_text().split()] == [unclear]
    assert not answer.degraded


def test_an_early_exit_keeps_the_rest_of_a_network_from_running_where_it_is_sure(tmp_path):
    """A trunk in two parts, with an exit after each: a cascade over members that share what they read."""
    members = {
        "lower": member(0, ["row"], "features", outputs=4, log=str(tmp_path / "lower")),
        "early": member(1, ["lower"], "logits"),
        "upper": member(2, ["lower"], "features", outputs=4, log=str(tmp_path / "upper")),
        "late": member(3, ["upper"], "logits"),
    }
    inputs = rows_of(*((n, NONE, 0) for n in range(-6, 7) if n))
    lower = evaluate(0, 4, [first(inputs)])
    early = softmax(evaluate(1, 3, [lower]), axis=1)
    late = softmax(evaluate(3, 3, [evaluate(2, 4, [lower])]), axis=1)
    threshold = float(np.median(early.max(axis=1)))
    options = {"stages": [["early"], ["late"]], "thresholds": [threshold]}
    fusion = {"rule": "cascade", "members": ["early", "late"], "options": options, "deadline_s": 4.0}
    answer = ask(spec_of(members, fusion=fusion), inputs)
    rule = Cascade(["early", "late"], [["early"], ["late"]], [threshold])
    expected = rule.fuse(torch.from_numpy(np.stack([early, late]))).values
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)
    unclear = int((early.max(axis=1) < threshold).sum())
    assert 0 < unclear < 12
    assert [int(n) for n in (tmp_path / "lower").read_text().split()] == [12]
    assert [int(n) for n in (tmp_path / "upper").read_text().split()] == [unclear]


def _bandit(tmp_path, explore=0.0):
    names = ("cheap", "dear", "dearest")
    members = {
        name: member(number, ["row"], "logits", index=number, log=str(tmp_path / name))
        for number, name in enumerate(names)
    }
    inputs = rows_of(*((n, NONE, 0) for n in range(-6, 7) if n))
    said = np.stack([softmax(evaluate(n, 3, [first(inputs)]), axis=1) for n in range(3)])
    outputs, labels = torch.from_numpy(said), torch.zeros(12, dtype=torch.long)
    arms = [[], ["dear"], ["dear", "dearest"]]
    rule = fit_bandit(names, ["cheap"], arms, outputs, labels, explore=explore)
    rule.network.theta.zero_()  # alone the cheap one promises its confidence, with others the median of that
    rule.network.theta[0, 1] = 1.0
    rule.network.theta[1:, 0] = float(np.median(said[0].max(axis=1)))
    save_file(rule.state(), tmp_path / "bandit.safetensors")
    state = str(tmp_path / "bandit.safetensors")
    fusion = {"rule": "bandit", "options": rule.options, "state": state, "deadline_s": 2.0}
    return spec_of(members, fusion=fusion), rule, inputs, outputs


@pytest.mark.parametrize("explore", [0.0, 0.6])
def test_a_bandit_asks_in_each_row_whom_it_chooses_by_what_the_cheap_member_says(tmp_path, explore):
    spec, rule, inputs, outputs = _bandit(tmp_path, explore)
    answer = ask(spec, inputs)
    np.testing.assert_allclose(answer.values, rule.fuse(outputs).values.numpy(), atol=1e-6)
    chosen = rule.select(outputs, torch.ones(3, 12, dtype=torch.bool)).sum(dim=1).tolist()
    assert [int(n) for n in (tmp_path / "cheap").read_text().split()] == [12]
    for name, count in zip(("dear", "dearest"), chosen[1:], strict=True):
        asked = (tmp_path / name).read_text().split() if (tmp_path / name).exists() else []
        assert [int(n) for n in asked] == [count] * bool(count)
    assert 0 < chosen[1] < 12
    assert not answer.degraded


def test_where_the_cheap_member_fails_a_bandit_asks_everybody(tmp_path):
    spec, _, _, _ = _bandit(tmp_path)
    inputs = rows_of((5, RAISE, 0b001))
    answer = ask(spec, inputs)
    assert answer.members_used == ("dear", "dearest")
    expected = np.stack([softmax(evaluate(n, 3, [first(inputs)]), axis=1) for n in (1, 2)]).mean(axis=0)
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)


@pytest.mark.long
def test_late_cheap_member_leaves_time_for_the_dear_one(tmp_path):
    inputs = rows_of((5, SLEEP + 3000, 0b01))
    answer = ask(_cascade(tmp_path, 0.0), inputs)
    np.testing.assert_allclose(answer.values, softmax(evaluate(1, 3, [first(inputs)]), axis=1), atol=1e-6)
    assert dict(answer.members_missing) == {"cheap": "deadline"}
