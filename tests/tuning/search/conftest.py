"""One small sweep for all that look at what it found."""

import pytest
from ray import tune

from quorate.tuning import digits, sweep
from tests.tuning.support.small_sweep import BUDGET, SECRET, SPACE, small


@pytest.fixture(scope="session")
def data():
    return small(digits())


class Recorder(tune.Callback):
    """As MLflow's and W&B's: told of each trial's start and end."""

    def __init__(self):
        self.told = []

    def on_trial_start(self, iteration, trials, trial, **info):
        self.say("start", trial)

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.say("end", trial, log_loss=trial.last_result.get("log_loss"))

    def say(self, what, trial, **words):
        self.told.append({"what": what, "phase": trial.trainable_name, **words})


@pytest.fixture(scope="session")
def recorder():
    return Recorder()


@pytest.fixture(scope="session")
def swept(cluster, data, recorder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_PASSWORD", SECRET)
        return sweep(SPACE, data, runs=tmp_path_factory.mktemp("runs"), callbacks=[recorder], **BUDGET)
