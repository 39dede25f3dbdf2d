"""Merges of digits networks that were fine-tuned from one start, and of some that were not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quorate.fusion import check_members, greedy_soup, slerp, task_arithmetic, ties, uniform_soup
from quorate.fusion.errors import UnrelatedMembersError
from tests.fusion.support.digits_networks import accuracy, family, network, trained
from tests.fusion.support.merge_methods import merges

pytestmark = pytest.mark.long


@pytest.mark.parametrize("merge", ["uniform_soup", "task_arithmetic", "ties", "dare", "slerp"])
def test_merge_of_two_digits_models_of_one_start_is_as_good_as_the_weaker_one(merge: str) -> None:
    parent, children = family()
    base = parent.state_dict()
    one, two = children.values()
    merge_all = {**merges(base), "slerp": lambda members: slerp(one, two, 0.5)}
    assert accuracy(merge_all[merge](children)) >= min(accuracy(one), accuracy(two))


def test_greedy_soup_of_digits_models_is_as_good_as_the_best() -> None:
    _, children = family()
    assert greedy_soup(children, accuracy).score >= max(accuracy(state) for state in children.values())


def plain(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def test_digits_models_trained_from_other_starts_are_refused_and_their_average_would_be_useless() -> None:
    strangers = {f"seed{seed}": trained(plain(seed), seed, 300).state_dict() for seed in (0, 1)}
    with pytest.raises(UnrelatedMembersError):
        uniform_soup(strangers)
    averaged = {key: (tensor + strangers["seed1"][key]) / 2 for key, tensor in strangers["seed0"].items()}
    assert accuracy(averaged, plain) < min(accuracy(state, plain) for state in strangers.values()) - 0.2


def test_models_trained_apart_from_one_random_start_pass_the_check() -> None:
    base = network(0).state_dict()
    apart = {f"seed{seed}": trained(network(0), seed, 300).state_dict() for seed in (1, 2)}
    check_members(apart)
    check_members({"seed1": apart["seed1"]}, base=base)
    assert uniform_soup(apart).keys() == task_arithmetic(base, apart, 0.5).keys() == base.keys()


def test_running_statistics_are_averaged_never_extrapolated() -> None:
    parent, children = family()
    mean = torch.stack([state["1.running_var"] for state in children.values()]).mean(0)
    for merged in (
        task_arithmetic(parent.state_dict(), children, -30.0),
        ties(parent.state_dict(), children, keep=0.01),
        uniform_soup(children),
    ):
        torch.testing.assert_close(merged["1.running_var"], mean)
        assert merged["1.num_batches_tracked"] == 300
