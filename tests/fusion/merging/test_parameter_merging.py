"""Soups, SLERP and task vectors against the published formulas in numpy."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quorate.fusion import (
    dare,
    greedy_soup,
    slerp,
    task_arithmetic,
    ties,
    uniform_soup,
)
from quorate.fusion.errors import (
    ArchitectureMismatchError,
    MergeError,
    NonFiniteStateError,
    RuleOptionError,
    UnrelatedMembersError,
)
from tests.fusion.support.merge_methods import State, merges

Array = NDArray[np.float64]


def start(seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        "layer.weight": torch.randn(12, 8, generator=generator),
        "layer.bias": torch.randn(12, generator=generator),
        "steps": torch.tensor([3, 4]),
    }


def tuned(base: State, seed: int, distance: float = 0.3) -> State:
    generator = torch.Generator().manual_seed(1000 + seed)
    moves = {key: distance * torch.randn(tensor.shape, generator=generator) for key, tensor in base.items()}
    return {key: tensor + moves[key] if tensor.is_floating_point() else tensor for key, tensor in base.items()}


def members_of(base: State, count: int = 3) -> dict[str, State]:
    return {f"member{index}": tuned(base, index) for index in range(count)}


def flat(state: State) -> Array:
    return np.concatenate([state[key].double().numpy().ravel() for key in ("layer.weight", "layer.bias")])


def assert_near(state: State, expected: Array) -> None:
    np.testing.assert_allclose(flat(state), expected, rtol=1e-5, atol=1e-6)


def test_uniform_soup_is_the_mean_of_the_parameters() -> None:
    members = members_of(start(0))
    assert_near(uniform_soup(members), np.mean([flat(state) for state in members.values()], axis=0))


@pytest.mark.parametrize("merge", ["uniform_soup", "task_arithmetic", "ties", "dare"])
def test_order_of_members_changes_no_bit_of_a_merge(merge: str) -> None:
    base = start(0)
    members = members_of(base, 5)
    backwards = dict(reversed(members.items()))
    one, other = merges(base)[merge](members), merges(base)[merge](backwards)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("merge", ["uniform_soup", "task_arithmetic", "ties", "dare"])
def test_merge_keeps_names_shapes_dtypes_and_integers_and_changes_no_input(merge: str) -> None:
    base = start(0)
    members = members_of(base)
    before = copy.deepcopy((base, members))
    merged = merges(base)[merge](members)
    assert {k: (v.shape, v.dtype) for k, v in merged.items()} == {k: (v.shape, v.dtype) for k, v in base.items()}
    assert torch.equal(merged["steps"], base["steps"])
    for state, old in zip((base, *members.values()), (before[0], *before[1].values()), strict=True):
        assert all(torch.equal(state[key], old[key]) for key in old)


def test_half_precision_members_are_averaged_in_double() -> None:
    weights = {name: state["layer.weight"].bfloat16() for name, state in members_of(start(0)).items()}
    expected = torch.stack([weight.double() for weight in weights.values()]).mean(0).bfloat16()
    assert torch.equal(uniform_soup({name: {"w": weight} for name, weight in weights.items()})["w"], expected)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_slerp_follows_shoemakes_formula(t: float) -> None:
    a, b = start(0), tuned(start(0), 1, distance=0.8)
    merged = slerp(a, b, t)
    for key in ("layer.weight", "layer.bias"):
        p, q = a[key].double().numpy(), b[key].double().numpy()
        angle = np.arccos((p * q).sum() / np.linalg.norm(p) / np.linalg.norm(q))
        expected = np.sin((1 - t) * angle) / np.sin(angle) * p + np.sin(t * angle) / np.sin(angle) * q
        np.testing.assert_allclose(merged[key].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_slerp_halfway_between_directions_of_one_length_keeps_the_length() -> None:
    a, b = start(0), tuned(start(0), 1, distance=0.8)
    b["layer.weight"] *= a["layer.weight"].norm() / b["layer.weight"].norm()
    halfway = slerp(a, b, 0.5)["layer.weight"].norm()
    torch.testing.assert_close(halfway, a["layer.weight"].norm())


def test_slerp_of_equal_and_of_zero_tensors_is_linear() -> None:
    a = {"same": torch.ones(3), "from_zero": torch.zeros(3)}
    b = {"same": torch.full((3,), 3.0), "from_zero": torch.ones(3)}
    merged = slerp(a, b, 0.25)
    torch.testing.assert_close(merged["same"], torch.full((3,), 1.5))
    torch.testing.assert_close(merged["from_zero"], torch.full((3,), 0.25))


def test_task_arithmetic_adds_scaled_differences() -> None:
    base = start(0)
    members = members_of(base)
    origin = flat(base)
    deltas = [flat(state) - origin for state in members.values()]
    assert_near(task_arithmetic(base, members, 0.4), origin + 0.4 * np.sum(deltas, axis=0))
    scale = {"member0": 1.0, "member1": -0.5, "member2": 0.0}
    assert_near(task_arithmetic(base, members, scale), origin + deltas[0] - 0.5 * deltas[1])


def ties_by_the_paper(origin: Array, members: list[Array], kept: int, scale: float) -> Array:
    """Yadav et al. 2023, algorithm 1, entry by entry."""
    trimmed = []
    for member in members:
        delta = member - origin
        top = set(np.argsort(-np.abs(delta))[:kept].tolist())
        trimmed.append([value if index in top else 0.0 for index, value in enumerate(delta)])
    merged = np.zeros_like(origin)
    for p in range(len(origin)):
        column = [row[p] for row in trimmed]
        sign = np.sign(sum(column))
        agreeing = [value for value in column if value != 0 and np.sign(value) == sign]
        merged[p] = np.mean(agreeing) if agreeing else 0.0
    return origin + scale * merged


@pytest.mark.parametrize(("keep", "scale"), [(0.2, 1.0), (0.5, 0.7), (1.0, 1.0)])
def test_ties_follows_algorithm_1(keep: float, scale: float) -> None:
    base = start(0)
    members = members_of(base, 4)
    origin = flat(base)
    kept = round(keep * len(origin))
    expected = ties_by_the_paper(origin, [flat(state) for state in members.values()], kept, scale)
    assert_near(ties(base, members, keep, scale), expected)


def test_ties_example_of_conflicting_and_small_changes() -> None:
    base = {"w": torch.zeros(4)}
    members = {
        "a": {"w": torch.tensor([4.0, -3.0, 0.1, 2.0])},
        "b": {"w": torch.tensor([2.0, 5.0, 0.2, -2.0])},
    }
    # Kept: three of four. Entry 1: 5 outweighs -3; entry 2 is trimmed; entry 3 cancels, so neither sign is elected.
    torch.testing.assert_close(ties(base, members, keep=0.75)["w"], torch.tensor([3.0, 5.0, 0.0, 0.0]))


def test_dare_drops_the_asked_share_and_rescales_the_rest() -> None:
    base = {"w": torch.randn(400, 500, generator=torch.Generator().manual_seed(0))}
    member = {"w": base["w"] + 0.01 * torch.randn(400, 500, generator=torch.Generator().manual_seed(1))}
    delta = (member["w"].double() - base["w"].double()).numpy()
    thinned = (dare(base, {"m": member}, 0.9, seed=0)["m"]["w"].double() - base["w"].double()).numpy()
    kept = np.abs(thinned) > 5 * np.abs(delta)
    assert abs(kept.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / delta.size)  # binomial
    np.testing.assert_allclose(thinned[kept], 10 * delta[kept], atol=1e-6)
    assert np.abs(thinned[~kept]).max() < 1e-6


def test_dare_repeats_for_a_seed_whoever_else_is_merged() -> None:
    base = start(0)
    members = members_of(base)
    among_three = dare(base, members, 0.5, seed=1)["member1"]
    alone = dare(base, {"member1": members["member1"]}, 0.5, seed=1)["member1"]
    other_seed = dare(base, members, 0.5, seed=2)["member1"]
    assert all(torch.equal(among_three[key], alone[key]) for key in alone)
    assert not torch.equal(among_three["layer.weight"], other_seed["layer.weight"])


def test_dare_without_dropping_is_the_member() -> None:
    base = start(0)
    assert_near(dare(base, {"m": tuned(base, 1)}, 0.0, seed=0)["m"], flat(tuned(base, 1)))


def test_greedy_soup_keeps_only_what_does_not_hurt() -> None:
    origin = torch.zeros(2)
    members = {
        "best": {"w": origin + torch.tensor([0.2, 0.0])},
        "helps": {"w": origin + torch.tensor([-0.3, 0.0])},
        "hurts": {"w": origin + torch.tensor([0.0, 0.5])},
    }
    soup = greedy_soup(members, lambda state: -float(state["w"].norm()))
    assert soup.ingredients == ("best", "helps")
    torch.testing.assert_close(soup.state["w"], torch.tensor([-0.05, 0.0]))
    assert soup.score == pytest.approx(-0.05)
    assert soup.member_scores == pytest.approx({"best": -0.2, "helps": -0.3, "hurts": -0.5})


def test_greedy_soup_refuses_a_score_that_is_nan() -> None:
    with pytest.raises(RuleOptionError, match="score of member0"):
        greedy_soup(members_of(start(0)), lambda state: float("nan"))


def test_members_of_other_shape_dtype_or_tensors_are_refused_by_name() -> None:
    base = start(0)
    wider = {**base, "layer.bias": torch.zeros(13)}
    half = {**base, "layer.bias": base["layer.bias"].half()}
    fewer = {key: tensor for key, tensor in base.items() if key != "layer.bias"}
    for other, found in ((wider, r"float32\[13\]"), (half, r"float16\[12\]"), (fewer, "no tensor")):
        with pytest.raises(ArchitectureMismatchError, match=f"layer.bias is {found} in odd"):
            uniform_soup({"even": base, "odd": other})


def test_integers_that_differ_are_refused() -> None:
    base = start(0)
    with pytest.raises(ArchitectureMismatchError, match="steps"):
        uniform_soup({"a": base, "b": {**tuned(base, 0), "steps": torch.tensor([3, 5])}})


def test_member_that_holds_nan_is_refused_by_name() -> None:
    members = members_of(start(0))
    members["member2"]["layer.bias"][3] = float("nan")
    with pytest.raises(NonFiniteStateError, match=r"layer.bias of member2"):
        ties(start(0), members)


@pytest.mark.parametrize("merge", ["uniform_soup", "task_arithmetic", "ties", "dare"])
def test_member_of_another_start_is_refused_by_every_merge(merge: str) -> None:
    base = start(0)
    members = {**members_of(base), "stranger": start(7)}
    with pytest.raises(UnrelatedMembersError, match=r"stranger"):
        merges(base)[merge](members)


def test_slerp_and_greedy_soup_refuse_another_start() -> None:
    with pytest.raises(UnrelatedMembersError):
        slerp(start(0), start(7), 0.5)
    with pytest.raises(UnrelatedMembersError):
        greedy_soup({"a": start(0), "b": start(7)}, lambda state: 0.0)


def test_no_members_and_options_out_of_range_are_refused() -> None:
    base = start(0)
    members = members_of(base)
    calls: list[Callable[[], Any]] = [
        lambda: uniform_soup({}),
        lambda: slerp(base, tuned(base, 0), 1.5),
        lambda: ties(base, members, keep=0.0),
        lambda: ties(base, members, scale=float("inf")),
        lambda: dare(base, members, 1.0, seed=0),
        lambda: task_arithmetic(base, members, {"member0": 1.0}),
        lambda: task_arithmetic(base, members, float("nan")),
    ]
    for call in calls:
        with pytest.raises(RuleOptionError):
            call()


def test_merge_errors_survive_pickling() -> None:
    errors: list[MergeError] = [
        ArchitectureMismatchError("a", "w", "float32[1]", "b", "float32[2]"),
        NonFiniteStateError("a", "w"),
        UnrelatedMembersError("a", "b", "w", 0.01, 0.25),
    ]
    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
