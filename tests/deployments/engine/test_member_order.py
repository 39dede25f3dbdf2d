"""The order of members, in the spec and of their answers, changes no bit of what is served."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from quorate.deployments import parse_spec
from quorate.deployments.engine.fusions.fuser import build_fuser
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.deployments.transport.row_state import RowState
from quorate.fusion import (
    RULES,
    Training,
    fit_bandit,
    fit_dynamic_selection,
    fit_gate,
    fit_meta_des,
    fit_output_attention,
    fit_stacking,
)
from quorate.fusion.loading import load_feature_rule
from tests.deployments.support.factories.oracle import NAN, NONE, SLEEP
from tests.deployments.support.graphs import CLASSES, member, spec_of
from tests.deployments.support.member_threads import running

MEMBERS = ["delta", "alpha", "echo", "bravo", "charlie", "india", "golf", "hotel", "foxtrot"]
WEIGHTS = {name: 0.1 + 0.07 * place for place, name in enumerate(MEMBERS)}
WIDTHS = {name: 2 + place for place, name in enumerate(MEMBERS)}
PATTERNS = [{name: 1.0 + place for place, name in enumerate(MEMBERS) if name != gone} for gone in MEMBERS]
OPTIONS: dict[str, dict[str, Any]] = {
    "weighted_mean": {"patterns": PATTERNS},
    "median": {"patterns": PATTERNS},
    "threshold": {"threshold": 0.2},
    "bayesian_model_averaging": {"log_evidence": {name: -float(place) / 3 for place, name in enumerate(MEMBERS)}},
    "cascade": {
        "stages": [["golf", "delta", "alpha"], ["echo", "hotel"], ["india", "bravo", "charlie", "foxtrot"]],
        "thresholds": [0.6, 0.55],
    },
}
ROWS = 40


def shuffled(rule: str, names: list[str], seed: int, **rest: Any) -> FusionSpec:
    """The same fusion with all that a spec may list in another order."""
    order = random.Random(seed)

    def mixed(table: dict) -> dict:
        return {name: table[name] for name in order.sample(list(table), len(table))}

    options = {}
    for word, value in {**OPTIONS.get(rule, {}), **rest.pop("options", {})}.items():
        if word == "patterns":
            value = [mixed(pattern) for pattern in value]
        elif word == "stages":
            value = [order.sample(stage, len(stage)) for stage in value]
        elif isinstance(value, dict):
            value = mixed(value)
        options[word] = value
    weights: dict[str, Any] = {"weights": mixed(WEIGHTS)} if RULES[rule].weighted else {}
    return FusionSpec(rule=rule, members=tuple(order.sample(names, len(names))), options=options, **weights, **rest)


def replies(said: dict[str, np.ndarray], absent: np.ndarray, seed: int) -> dict[str, MemberReply]:
    """What members answered, in the order of arrival; NaN where a row is absent."""
    arrived = random.Random(seed).sample(list(said), len(said))
    at = {name: place for place, name in enumerate(MEMBERS)}
    return {name: MemberReply(said[name], absent[at[name]].astype(np.uint8)) for name in arrived}


def assert_no_order_shows(rule: str, said: dict[str, np.ndarray], folder, inputs=None, **rest: Any) -> None:
    absent = np.random.default_rng(1).random((len(MEMBERS), ROWS)) < 0.2
    absent[0] = False
    absent[:, :10] = False
    seen = []
    for seed in range(6):
        fuser = build_fuser("fused", shuffled(rule, MEMBERS, seed, **rest), folder, tuple("abcdef"))
        outputs, states = fuser.gather(replies(said, absent, seed), ROWS)
        assert outputs is not None
        present = states == RowState.OK
        complete = fuser.fuse(outputs[:, :10], None, {} if inputs is None else {"x": inputs[:10]})
        fused = fuser.fuse(outputs, present, {} if inputs is None else {"x": inputs})
        places = [fuser.asked.index(name) for name in MEMBERS]
        seen += [[f.values, f.contributions[places], f.coverage, f.abstained] for f in (fused, complete)]
    for kind in (0, 1):
        for other in seen[kind::2]:
            for one, two in zip(seen[kind], other, strict=True):
                np.testing.assert_array_equal(one, two)


def spoken(rule: str) -> dict[str, np.ndarray]:
    random_ = np.random.default_rng(0)
    reads = RULES[rule].reads
    if reads == ("features",):
        return {name: random_.standard_normal((ROWS, WIDTHS[name])).astype(np.float32) for name in MEMBERS}
    said = random_.exponential(size=(len(MEMBERS), ROWS, 6)).astype(np.float32)
    if rule == "mean":
        said[1:5] *= 1e12
        said[5:] = -said[1:5]  # what is left when these cancel depends on the order, and much
    elif reads != ("values",):
        said /= said.sum(axis=-1, keepdims=True)
    return dict(zip(MEMBERS, said, strict=True))


@pytest.mark.parametrize(
    "rule", [n for n, e in RULES.items() if not (e.learned or e.sequences or e.reads == ("features",))]
)
def test_closed_form_rules(rule: str, tmp_path) -> None:
    assert_no_order_shows(rule, spoken(rule), tmp_path)


@pytest.mark.parametrize("rule", [n for n, e in RULES.items() if e.learned])
def test_learned_rules(rule: str, tmp_path) -> None:
    said, labels = spoken(rule), torch.randint(0, 6, (ROWS,), generator=torch.Generator().manual_seed(0))
    outputs, training = torch.from_numpy(np.stack(list(said.values()))), Training(steps=20)
    inputs = np.random.default_rng(2).standard_normal((ROWS, 4)).astype(np.float32)
    asked = torch.from_numpy(inputs)
    fitted: Any
    if rule == "dynamic_selection":
        fitted = fit_dynamic_selection(MEMBERS, asked, outputs, labels, input_name="x", top_k=3)
    elif rule == "meta_des":
        fitted = fit_meta_des(MEMBERS, asked, outputs, labels, input_name="x")
    elif rule == "gate":
        fitted = fit_gate(MEMBERS, asked, outputs, labels, training=training, input_name="x", top_k=3)
    elif rule == "bandit":
        fitted = fit_bandit(MEMBERS, MEMBERS[:2], [[], MEMBERS[2:]], outputs, labels, explore=0.3)
    else:
        fit: Any = {"stacking": fit_stacking, "output_attention": fit_output_attention}[rule]
        fitted = fit(MEMBERS, outputs, labels, training=training)
    save_file(fitted.state(), tmp_path / "rule.safetensors")
    assert_no_order_shows(rule, said, tmp_path, inputs, state="rule.safetensors", options=fitted.options)


@pytest.mark.parametrize("rule", [n for n, e in RULES.items() if e.reads == ("features",)])
def test_rules_over_features(rule: str, tmp_path) -> None:
    options: dict[str, Any] = {"widths": WIDTHS, **({"layout": MEMBERS} if rule == "concat" else {"width": 4})}
    torch.manual_seed(0)
    made = load_feature_rule(rule)(**options)
    save_file(made.state(), tmp_path / "rule.safetensors")
    assert_no_order_shows(rule, spoken(rule), tmp_path, state="rule.safetensors", options=options)


def test_columns_of_concatenated_features_stay_where_the_spec_puts_them(tmp_path) -> None:
    """A head was trained on them: without a layout they stand as the spec lists the members."""
    said = {name: np.full((1, 2), number, np.float32) for number, name in enumerate(("b", "a"))}
    fusion = FusionSpec(rule="concat", members=("b", "a"), options={"widths": {"a": 2, "b": 2}})
    fuser = build_fuser("fused", fusion, tmp_path)
    outputs, states = fuser.gather({n: MemberReply(said[n], np.zeros(1, np.uint8)) for n in ("a", "b")}, 1)
    assert outputs is not None
    assert fuser.fuse(outputs, states == RowState.OK, {}).values.tolist() == [[0, 0, 1, 1]]


@pytest.mark.long
def test_permuted_specs_serve_the_same_bits_in_any_order_of_arrival() -> None:
    names = MEMBERS[:5]
    rules = ("mean", "weighted_mean", "geometric_mean", "product", "dempster_shafer", "soft_vote")
    members = {n: member(seed, ["row"], "logits", index=seed) for seed, n in enumerate(names)}
    order = random.Random(0)

    def spec(rule: str):
        listed = order.sample(names, len(names))
        weights = {"weights": {n: WEIGHTS[n] for n in order.sample(names, len(names))}} if RULES[rule].weighted else {}
        fusion = {"rule": rule, "members": order.sample(names, len(names)), "deadline_s": 30, **weights}
        return parse_spec({**base, "members": {n: members[n] for n in listed}, "fusion": fusion})

    def question() -> dict[str, np.ndarray]:
        """Eight rows, in one of which a member gives NaN; the others' commands let members answer one by one."""
        late = order.sample(range(len(names)), len(names))
        commands = [(SLEEP + 1 + 3 * late[index], 1 << index) for index in range(len(names))]
        rows = [*commands, (NAN, 0b10), (NONE, 0), (NONE, 0)]
        return {"row": np.array([(n, *row) for n, row in enumerate(rows, 1)], dtype=np.int64)}

    base = spec_of(members, fusion={"rule": "mean"})

    async def scenario() -> None:
        async with running(base) as engine:
            for rule in rules:
                seen = []
                for _ in range(4):
                    engine.revisions.commit(engine.prepare(spec(rule)))
                    assert engine.revision.asked == tuple(sorted(names))
                    answers = [await engine.infer(question(), explain=True) for _ in range(2)]
                    seen += [(a.values, a.coverage, *(a.explanation.contributions[n] for n in names)) for a in answers]
                for other in seen[1:]:
                    for one, two in zip(seen[0], other, strict=True):
                        np.testing.assert_array_equal(one, two)
                assert seen[0][0].shape == (8, len(CLASSES))
                assert seen[0][3][5] == 0  # the second member's NaN row

    asyncio.run(scenario())
