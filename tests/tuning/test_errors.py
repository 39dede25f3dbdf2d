import pickle

from quorate.tuning.errors import DataError, PredictionError, from_ray


class LostError(Exception):
    cause: Exception | None = None


def test_what_a_task_raised_is_the_error_and_what_ray_says_of_a_lost_one_is_a_sentence():
    lost = LostError("Traceback\n  ...\nthe worker died\n")
    assert (
        str(from_ray(lost, "members.cnn", "see its logs")) == "members.cnn: Ray gave up: the worker died; see its logs"
    )
    lost.cause = DataError("rows", "0", "give some")
    assert from_ray(lost, "members.cnn", "see its logs") is lost.cause


def test_errors_survive_the_trip_between_processes():
    error = pickle.loads(pickle.dumps(PredictionError("members.cnn", "every row failed", "correct the member")))
    assert (type(error), str(error)) == (PredictionError, "members.cnn: every row failed; correct the member")
