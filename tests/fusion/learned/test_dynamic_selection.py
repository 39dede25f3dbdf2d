"""Dynamic selection, against DESlib's figures and the papers' definitions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from scipy.special import softmax

from quorate.fusion import DynamicSelection, fit_dynamic_selection
from quorate.fusion.errors import RuleOptionError, ShapeError
from quorate.fusion.learned.nearest import distances
from quorate.fusion.loading import load_rule
from tests.fusion.support.contract import assert_same_bits

NAMES = ["a", "b", "c", "d"]
# predict_proba of DESlib 0.3.7 with k=7, voting="soft", fitted on the first 60 rows of `table()`, of the last six.
DESLIB = {
    "union": [
        [0.725478, 0.097226, 0.177296],
        [0.202952, 0.627406, 0.169643],
        [0.086567, 0.198938, 0.714495],
        [0.515877, 0.260128, 0.223995],
        [0.131167, 0.255016, 0.613818],
        [0.551935, 0.173896, 0.274169],
    ],
    "eliminate": [
        [0.582221, 0.199947, 0.217833],
        [0.554672, 0.087568, 0.357761],
        [0.107456, 0.377412, 0.515132],
        [0.439947, 0.401292, 0.158761],
        [0.308927, 0.228604, 0.462469],
        [0.612255, 0.052457, 0.335289],
    ],
}


def table() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Inputs (66, 3), labels and four members' probabilities; each is good where an input of its own is large."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(66, 3))
    labels = random.integers(0, 3, 66)
    logits = random.normal(0, 1, (4, 66, 3))
    logits[:, np.arange(66), labels] += 1.0 + inputs[:, [0, 1, 2, 0]].T
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    inputs = (inputs - inputs[:60].mean(axis=0)) / inputs[:60].std(axis=0)
    return inputs, labels, probs


def fitted(select: str = "union", **more: Any) -> DynamicSelection:
    inputs, labels, probs = table()
    return fit_dynamic_selection(
        NAMES,
        torch.from_numpy(inputs[:60]),
        torch.from_numpy(probs[:, :60]),
        torch.from_numpy(labels[:60]),
        input_name="x",
        select=select,
        **more,
    )


def queries() -> tuple[torch.Tensor, torch.Tensor]:
    inputs, _, probs = table()
    return torch.from_numpy(inputs[60:]), torch.from_numpy(probs[:, 60:])


def counts_of(neighbours: int) -> NDArray[np.int64]:
    """(4, 6) on how many of the nearest rows each member is right, by the definition."""
    inputs, labels, probs = table()
    found = []
    for query in inputs[60:]:
        nearest = np.argsort(np.linalg.norm(inputs[:60] - query, axis=1))[:neighbours]
        found.append((probs[:, nearest].argmax(axis=2) == labels[nearest]).sum(axis=1))
    return np.stack(found, axis=1)


def test_a_member_counts_by_how_many_of_the_nearest_rows_it_is_right_on() -> None:
    inputs, outputs = queries()
    for neighbours in (5, 7):
        counts = counts_of(neighbours)
        fused = fitted(neighbours=neighbours).fuse(outputs, None, inputs)
        np.testing.assert_allclose(fused.contributions, counts / counts.sum(axis=0), atol=1e-5)
    # DESlib ends with the softmax of the mean of counts times probabilities.
    np.testing.assert_allclose(
        softmax(fused.values.numpy() * counts.sum(axis=0)[:, None] / 4, axis=1), DESLIB["union"], atol=2e-5
    )


def test_eliminated_are_those_that_deslib_eliminates() -> None:
    inputs, outputs = queries()
    np.testing.assert_allclose(fitted("eliminate").fuse(outputs, None, inputs).values, DESLIB["eliminate"], atol=2e-5)


def test_a_row_alone_is_as_far_from_others_to_the_bit_as_in_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, others = torch.randn(60, 5, generator=generator), torch.randn(200, 5, generator=generator)
    together = distances(rows, others)
    for number, row in enumerate(rows):
        assert torch.equal(distances(row.unsqueeze(0), others)[0], together[number])


def test_the_most_competent_are_asked_and_who_is_down_is_replaced() -> None:
    rule, (inputs, outputs) = fitted(top_k=2), queries()
    asked = rule.select(inputs)
    assert asked.sum(dim=0).tolist() == [2] * 6
    up = torch.ones(4, dtype=torch.bool)
    up[int(asked[:, 0].int().argmax())] = False
    assert rule.select(inputs, up).sum(dim=0).tolist() == [2] * 6
    alone = torch.zeros(4, 6, dtype=torch.bool).index_fill(0, torch.tensor(3), True)
    torch.testing.assert_close(rule.fuse(outputs, alone, inputs).values, outputs[3].float())


def test_selection_beats_the_mean_where_members_know_regions_of_their_own() -> None:
    random = np.random.default_rng(3)
    inputs = random.uniform(-1, 1, (3000, 2))
    labels = random.integers(0, 2, 3000)
    knows = np.stack([inputs[:, 0] > 0, inputs[:, 0] <= 0])
    right = np.where(knows, 0.9, 0.35)
    probs = np.where(labels[:, None] == [0, 1], right[:, :, None], 1 - right[:, :, None])
    half = slice(0, 1500), slice(1500, None)
    rule = fit_dynamic_selection(
        ["a", "b"], torch.from_numpy(inputs[half[0]]), torch.from_numpy(probs[:, half[0]]),
        torch.from_numpy(labels[half[0]]), input_name="x",
    )  # fmt: skip
    outputs, truth = torch.from_numpy(probs[:, half[1]]), torch.from_numpy(labels[half[1]])

    def loss(values: torch.Tensor) -> float:
        return float(-values[torch.arange(len(truth)), truth].log().mean())

    assert loss(rule.fuse(outputs, None, torch.from_numpy(inputs[half[1]])).values) < loss(outputs.mean(dim=0)) - 0.2


def test_spec_and_state_build_the_same_rule_again_in_any_order() -> None:
    rule, (inputs, outputs) = fitted("eliminate", neighbours=3), queries()
    spec = json.loads(json.dumps(rule.to_spec(NAMES)))
    state = load(save(rule.state()))
    again = load_rule(spec["rule"]).from_spec(spec["members"], None, spec["options"], state)
    assert isinstance(again, DynamicSelection)
    assert_same_bits(again.fuse(outputs, None, inputs), rule.fuse(outputs, None, inputs))
    moved = load_rule(spec["rule"]).from_spec(["d", "b", "a", "c"], None, spec["options"], state)
    assert isinstance(moved, DynamicSelection)
    assert torch.equal(moved.fuse(outputs[[3, 1, 0, 2]], None, inputs).values, rule.fuse(outputs, None, inputs).values)


def test_what_cannot_be_looked_up_is_refused() -> None:
    inputs, labels, probs = (torch.from_numpy(part) for part in table())
    wrong: tuple[dict[str, Any], ...] = ({"neighbours": 0}, {"neighbours": 2.5}, {"select": "all"})
    for options in wrong:
        with pytest.raises(RuleOptionError, match=next(iter(options))):
            fit_dynamic_selection(NAMES, inputs, probs, labels, input_name="x", **options)
    with pytest.raises(ShapeError, match="inputs"):
        fit_dynamic_selection(NAMES, inputs[:10], probs, labels, input_name="x")
    state = fitted().state()
    with pytest.raises(RuleOptionError, match="neighbours"):
        DynamicSelection.from_spec(NAMES, None, {"top_k": 4, "input_name": "x", "neighbours": "many"}, state)
