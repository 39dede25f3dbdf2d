"""Sweeps whose driver, worker, files or disk fail: what was finished is kept, and the end is as if nothing had been."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from ray import tune

from quorate.tuning import resume_sweep, sweep
from quorate.tuning.errors import SweepError
from tests.tuning.support import small_sweep
from tests.tuning.support.small_sweep import BUDGET, SPACE, journal, outcome

TRIALS = 18
DRIVER = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import ray
from small_sweep import BUDGET, SPACE, small
from quorate.tuning import digits, load_measured, sweep

def tell(progress):
    print(progress.phase, progress.finished, flush=True)

ray.init(address={address!r}, log_to_driver=False, configure_logging=False)
sweep(
    SPACE, small(digits()), run_folder=Path({folder!r}), measured=load_measured(Path({measured!r})), on_progress=tell,
    **{{**BUDGET, "workers": 1}},
)
"""


def killed_driver(cluster, folder, measured, at, after_s=0.0):
    """Run a sweep in another process and kill it without warning some time after it says ``at``.

    Args:
        at: what it says, or after how many trials that have finished.

    Returns:
        How many trials it has said to have finished.
    """
    code = DRIVER.format(
        tests=str(Path(small_sweep.__file__).parent), address=cluster.get_runtime_context().gcs_address,
        folder=str(folder), measured=str(measured),
    )  # fmt: skip
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    finished = {}
    for line in driver.stdout:
        phase, _, count = line.strip().rpartition(" ")
        finished[phase] = int(count)
        if at in (line.strip(), sum(finished.values())):
            break
    time.sleep(after_s)
    os.kill(driver.pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    driver.stdout.close()
    return sum(finished.values())


@pytest.mark.slow
@pytest.mark.parametrize("at", ["members 4", "structures 5"])
def test_a_sweep_whose_driver_was_killed_goes_on_and_ends_as_if_nothing_had_been(cluster, swept, data, tmp_path, at):
    folder = tmp_path / "run"
    killed_driver(cluster, folder, swept.folder, at)
    assert_goes_on(folder, swept, data)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
def test_a_sweep_whose_driver_was_killed_at_any_moment_loses_only_trials_under_way(
    cluster, swept, data, tmp_path, moment
):
    random, folder = Random(moment), tmp_path / "run"
    finished = killed_driver(cluster, folder, swept.folder, random.randint(1, 14), random.uniform(0, 0.2))
    assert_goes_on(folder, swept, data, finished)


def assert_goes_on(folder, swept, data, finished=1):
    """What was finished is there and is not run again, and the end is that of a sweep that nothing happened to.

    It may have been killed when all trials had finished, and nothing was said of what they come to.
    """
    done = journal(folder)
    assert finished <= len(done) <= TRIALS
    result = resume_sweep(folder, data, workers=1)
    assert {path: journal(folder)[path] for path in done} == done
    assert outcome(result) == outcome(swept)


def test_a_finished_sweep_taken_up_again_runs_nothing(swept, data):
    before = journal(swept.folder)
    assert outcome(resume_sweep(swept.folder, data)) == outcome(swept)
    assert journal(swept.folder) == before


@pytest.mark.slow
def test_damaged_files_are_found_by_their_digest_said_and_made_again(cluster, swept, data, tmp_path):
    folder = tmp_path / "run"
    first = sweep(SPACE, data, run_folder=folder, **BUDGET)
    weights = sorted((folder / "members").glob("*.safetensors"))
    good = weights[0].read_bytes()
    weights[0].write_bytes(good[:-1] + b"\x00")
    trial = folder / "trials" / "structures" / "00003.json"
    trial.write_text(trial.read_text().replace("log_loss", "lag_loss", 1))
    said = []
    result = resume_sweep(folder, data, on_progress=lambda progress: said.append(progress.said))
    assert any(s and f"{weights[0].name} has other bytes than were written: trained again" in s for s in said)
    assert any(s and "00003.json is damaged: the trial runs again" in s for s in said)
    assert weights[0].read_bytes() == good
    assert outcome(result) == outcome(first)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_sweep_goes_on_after_it(cluster, swept, data, tmp_path, monkeypatch):
    written, real = [], os.fsync

    def fsync(file):
        written.append(file)
        if len(written) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr("quorate.deployments.atomic_files.os.fsync", fsync)
    with pytest.raises(SweepError, match=r"cannot be written \(No space left on device\); make room, .*--resume"):
        sweep(SPACE, data, run_folder=tmp_path / "run", **BUDGET)
    monkeypatch.undo()
    assert 0 < len(journal(tmp_path / "run")) < 18
    assert outcome(resume_sweep(tmp_path / "run", data)) == outcome(swept)


class Killer(tune.Callback):
    """Kills the worker of the first trial once, after its first epoch."""

    def __init__(self, mark):
        self.mark = mark

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if trial.config["number"] == 0 and "epoch" in result and not self.mark.exists():
            self.mark.touch()
            os.kill(result["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_a_trial_whose_worker_is_lost_goes_on_from_its_checkpoint(cluster, swept, data, tmp_path):
    result = sweep(SPACE, data, runs=tmp_path, callbacks=[Killer(tmp_path / "killed")], **BUDGET)
    assert (tmp_path / "killed").exists()
    assert outcome(result) == outcome(swept)


def test_two_processes_cannot_work_in_one_folder(swept, data):
    with (swept.folder / "lock").open("w") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SweepError, match="another process runs this sweep"):
            resume_sweep(swept.folder, data)
