"""The bytes that requests may hold together."""

import pytest

from quorate.deployments import memory_budget
from quorate.deployments.errors import OverloadedError
from quorate.deployments.memory_budget import MemoryBudget, default_limit_bytes


def test_what_several_hold_is_counted_together_and_given_back_at_the_end():
    budget = MemoryBudget(100)
    with budget.hold() as one, budget.hold() as other:
        one.add(60)
        other.add(30)
        one.give_back(50)
        assert (one.held_bytes, other.held_bytes, budget.held_bytes) == (10, 30, 40)
    assert budget.held_bytes == 0


def test_what_does_not_fit_is_refused_with_a_time_to_come_back_and_adds_nothing():
    budget = MemoryBudget(100)
    with budget.hold() as hold:
        hold.add(100)
        with pytest.raises(OverloadedError, match="the memory for requests already holds its limit of 100") as refused:
            hold.add(1)
        assert refused.value.retry_after_s > 0
        assert budget.held_bytes == 100


def test_an_error_gives_back_as_an_end_does():
    budget = MemoryBudget(100)
    hold = budget.hold()

    def fails():
        with hold:
            hold.add(100)
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        fails()
    assert budget.held_bytes == 0
    hold.close()
    assert budget.held_bytes == 0


def test_a_container_has_a_share_of_its_own_limit(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory_budget, "_CGROUP_LIMITS", (tmp_path / "absent", limit))
    machine = default_limit_bytes()
    limit.write_text("max\n")
    assert default_limit_bytes() == machine
    limit.write_text(f"{4 << 30}\n")
    assert default_limit_bytes() == (4 << 30) // memory_budget.SHARE_OF_MEMORY
    limit.write_text("1000\n")
    assert default_limit_bytes() == memory_budget.MIN_BUDGET_BYTES


def test_a_containers_free_memory_counts_files_that_nobody_reads(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("1000000\n")
    (tmp_path / "current").write_text("900000\n")
    (tmp_path / "stat").write_text("anon 500000\ninactive_file 300000\n")
    for name, file in (("_CGROUP_LIMITS", "max"), ("_CGROUP_USED", "current"), ("_CGROUP_STATES", "stat")):
        monkeypatch.setattr(memory_budget, name, (tmp_path / file,))
    assert memory_budget.free_memory_bytes() == 400_000


def test_without_a_limit_the_machine_says_what_is_free(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("max\n")
    monkeypatch.setattr(memory_budget, "_CGROUP_LIMITS", (tmp_path / "max",))
    monkeypatch.setattr(memory_budget, "_CGROUP_USED", (tmp_path / "none",))
    monkeypatch.setattr(memory_budget, "_CGROUP_STATES", (tmp_path / "none",))
    assert memory_budget.free_memory_bytes() > 1 << 20
