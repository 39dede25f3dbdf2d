from ray import tune
from ray.tune.logger import LoggerCallback

from quorate.tuning.search.callbacks import Callbacks
from quorate.tuning.search.generations import Task


class Logger(LoggerCallback):
    """As MLflow's and W&B's: runs are kept by trial."""

    def __init__(self):
        self.told, self.is_set_up, self.ended = {}, False, None

    def setup(self, *args, **words):
        self.is_set_up = True

    def log_trial_start(self, trial):
        self.told.setdefault(trial, []).append(("start", dict(trial.config)))

    def log_trial_result(self, iteration, trial, result):
        self.told[trial].append((result["training_iteration"], result.get("log_loss"), result["done"]))

    def log_trial_end(self, trial, failed=False):
        self.told[trial].append(("end", failed))

    def on_experiment_end(self, trials, **info):
        self.ended = [str(trial) for trial in trials]


def test_a_logger_of_ray_tunes_is_told_of_each_trial_from_its_start_to_its_end(tmp_path):
    logger = Logger()
    with Callbacks([logger, tune.Callback()], tmp_path) as callbacks:
        assert logger.is_set_up
        callbacks.start("members", "MemberTrial", Task(3, {"number": 3}))
        callbacks.report("members", 3, {"log_loss": 2.0}, done=False)
        callbacks.start("members", "MemberTrial", Task(3, {"number": 3}))  # its worker died
        callbacks.report("members", 3, {"log_loss": 1.0}, done=True)
        callbacks.start("structures", "StructureTrial", Task(3, {"number": 3}))
        callbacks.fail("structures", 3)
    member, structure = logger.told
    start = ("start", {"number": 3})
    assert logger.told[member] == [start, (1, 2.0, False), start, (2, 1.0, True), ("end", False)]
    assert logger.told[structure] == [start, ("end", True)]
    assert member.trial_id != structure.trial_id
    assert logger.ended == [str(member), str(structure)]
