"""What weights that have learned came to, as who learns writes it down."""

import json

import numpy as np

from quorate.deployments.learning.online.history import LabelTimes
from quorate.deployments.learning.online.learner import Learner, Start
from quorate.deployments.learning.online.relabelling.report import called_otherwise
from quorate.deployments.learning.online.state import OnlineState, Publication
from tests.deployments.support.label_streams import stream

SINCE_US = 1_790_000_000_000_000


def learned_report(rows=600, trouble=""):
    """Two members, one of which is the better one from the middle on: weights went live, and were taken back."""
    random = np.random.default_rng(0)
    data = stream(random, np.repeat([[2.0, 1.0], [1.0, 2.0]], rows // 2, axis=0), classes=3)
    learner, came = Learner(Start("fused", ("a", "b"), np.array([0.25, 0.75]))), SINCE_US + data.came * 1_000_000
    for start in range(0, rows, 50):
        part = slice(start, start + 50)
        times = LabelTimes(SINCE_US + np.arange(rows)[part] * 1_000_000, came[part])
        learner.take(times, data.truth[part], data.cells[part], data.present[part])
    state = OnlineState(published=1, rolled_back=1)
    for back in (False, True):
        weights = {"fused": {"a": 0.25, "b": 0.75} if back else {"a": 0.9, "b": 0.1}}
        when = SINCE_US + (500 if back else 200) * 1_000_000
        state.told.append(Publication("f", "r", when, back, weights, {"fused": 0.02}, {"fused": 150}))
    called = called_otherwise({"x": {"y": 1.0}}, (), {"x": {"y": 0.98, "x": 0.02}})
    output = {**learner.report(), "relabelled": called}
    report = {
        "mode": "live", "publish_every": "10m", "revision": "r", "labels": rows, "outputs": [output],
        "left_out": {"/secret/path is gone": 2}, "trouble": trouble,
    }  # fmt: skip
    return json.dumps({"state": state.to_json(), "report": report}).encode()
