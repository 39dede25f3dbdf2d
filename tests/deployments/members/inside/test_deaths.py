"""Who computed when a process was ended is known to those that come after it."""

import multiprocessing
import os
import signal

import pytest

from quorate.deployments.members.inside import deaths
from quorate.deployments.members.inside.deaths import InsideDeaths

FORK = multiprocessing.get_context("fork")


def end_while(root, place):
    """A process that is killed while the member at this place computes; nobody does at -1."""

    def work():
        deaths = InsideDeaths("app", 3, root)
        deaths.run(0)
        deaths.run(-1)
        deaths.run(place)
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=work)
    process.start()
    process.join()


def kept_out(root, members=3):
    deaths = InsideDeaths("app", members, root)
    deaths.close()
    return deaths.kept_out


def test_a_member_that_ended_two_processes_is_kept_out_and_no_other_is(tmp_path):
    end_while(tmp_path, 1)
    assert kept_out(tmp_path) == set()
    end_while(tmp_path, 2)
    assert kept_out(tmp_path) == set()
    end_while(tmp_path, 1)
    assert kept_out(tmp_path) == {1}


def test_processes_that_are_killed_between_passes_keep_nobody_out(tmp_path):
    for _ in range(3):
        end_while(tmp_path, -1)
    assert kept_out(tmp_path) == set()


def test_a_process_that_lives_is_not_taken_for_dead(tmp_path):
    living = [InsideDeaths("app", 3, tmp_path) for _ in range(3)]
    for one in living:
        one.run(1)
    assert kept_out(tmp_path) == set()
    for one in living:
        one.close()
    assert not list((tmp_path / "app").glob("*.running"))


def test_deaths_of_long_ago_count_no_more(tmp_path, monkeypatch):
    end_while(tmp_path, 1)
    end_while(tmp_path, 1)
    monkeypatch.setattr(deaths, "COUNTS_S", 0.0)
    assert kept_out(tmp_path) == set()


def test_where_nothing_can_be_kept_members_run_all_the_same(tmp_path):
    (tmp_path / "app").write_text("no folder")
    deaths = InsideDeaths("app", 3, tmp_path)
    deaths.run(1)
    deaths.close()
    assert deaths.kept_out == set()


@pytest.mark.parametrize("place", [0, 253])
def test_any_of_many_members_can_be_named(tmp_path, place):
    end_while(tmp_path, place)
    end_while(tmp_path, place)
    assert kept_out(tmp_path, 254) == {place}
