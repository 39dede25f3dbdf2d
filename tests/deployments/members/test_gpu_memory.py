"""A replica that shares a GPU is kept to its part of the memory."""

from types import SimpleNamespace

import pytest
import torch

from quorate.deployments.members.gpu_memory import CONTEXT_BYTES, allowed_bytes, cap_memory, peak_bytes

TOTAL = 24 << 30


@pytest.fixture
def capped(monkeypatch):
    """What torch was told, on a GPU that is only said to be there."""
    told = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=TOTAL))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, device: told.append(part))
    return told


def test_replicas_whose_parts_make_a_whole_gpu_may_not_take_more_than_it_has(capped):
    for part in (0.5, 0.25, 0.25):
        cap_memory(part)
    assert sum(capped) * TOTAL + 3 * CONTEXT_BYTES == pytest.approx(TOTAL)


@pytest.mark.parametrize("num_gpus", [0, 1, 2])
def test_whoever_shares_no_gpu_is_not_limited(capped, num_gpus):
    cap_memory(num_gpus)
    assert not capped


def test_a_part_smaller_than_the_context_allows_nothing():
    assert allowed_bytes(0.01, 8 << 30) == 0


def test_a_cpu_holds_nothing_of_a_gpu():
    assert peak_bytes(torch.device("cpu")) == 0
