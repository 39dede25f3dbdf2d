"""An ensemble of several outputs behind its doors, one of whose members may be made late."""

import pytest

from quorate.deployments import Client
from tests.deployments.support.desk import MOODS, fusion, member


@pytest.fixture(scope="module")
def switch(tmp_path_factory):
    """What the member ``late`` does: how many seconds it sleeps."""
    file = tmp_path_factory.mktemp("late") / "switch"
    file.write_text("0")
    return file


@pytest.fixture(scope="module")
def desk(open_doors, switch):
    weighted = {"rule": "weighted_mean", "weights": {"a": 0.25, "b": 0.75}}
    return open_doors({
        "name": "desk",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {
            "a": member("known", shift=1), "b": member("known", shift=-2),
            "late": member("slow", shift=3, switch=str(switch), log=f"{switch}.log"),
            "picky": member("picky", shift=2), "number": {**member("known", shift=0), "output": "values"},
        },
        "fusions": {
            "mood": fusion("a", "b", classes=MOODS, **weighted),
            "topic": fusion("a", "late", "picky", classes=MOODS, deadline_s=1.5),
            "only": fusion("late", classes=MOODS, deadline_s=1.0),
            "score": fusion("number"),
        },
        "outputs": ["mood", "topic", "only", "score"],
    })  # fmt: skip


@pytest.fixture
def client(desk):
    with Client(desk.http, model="desk") as client:
        yield client
