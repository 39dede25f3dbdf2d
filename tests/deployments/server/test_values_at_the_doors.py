"""Rankings and quantiles over the wire: a request is a list, quantiles ascend and have an interval."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import rankdata

from quorate.deployments import Client
from quorate.deployments.errors import RequestError
from tests.deployments.server.test_protocol_arrow import ROWS, known, pairs

pytestmark = pytest.mark.long


def of_values(pair_spec, name, **more):
    members = {member: {**spec, "output": "values"} for member, spec in pair_spec["members"].items()}
    return {**{k: v for k, v in pair_spec.items() if k != "classes"}, "name": name, "members": members, **more}


def test_each_request_is_a_list_of_its_own_and_a_stream_is_none(open_doors, pair_spec):
    fusion = {"rule": "list_reciprocal_rank", "weights": {"a": 0.25, "b": 0.75}, "deadline_s": 5.0}
    doors = open_doors(of_values(pair_spec, "ranker", task="ranking", fusion=fusion))
    with Client(doors.http, model="ranker") as client:
        for rows in (ROWS[:7], ROWS[3:12]):
            points = [1 / (60 + rankdata(-known(shift, rows), axis=0)) for shift in (1, -2)]
            answer = client.infer(x=rows).outputs["fused"]
            np.testing.assert_allclose(answer, 0.25 * points[0] + 0.75 * points[1], rtol=1e-5)
        with pytest.raises(RequestError, match="'ranker' ranks the rows of a request"):
            list(client.infer_arrow(pa.table({"x": pairs(ROWS)})))


def test_quantiles_ascend_and_their_interval_may_be_narrower(open_doors, pair_spec):
    conformal = {"coverage": 0.8, "thresholds": [{"members": ["a", "b"], "threshold": -0.01}]}
    fusion = {"rule": "quantile_average", "weights": {"a": 0.25, "b": 0.75}, "conformal": conformal}
    doors = open_doors(of_values(pair_spec, "quantiles", quantiles=[0.1, 0.5, 0.9], fusion=fusion))
    with Client(doors.http, model="quantiles") as client:
        result = client.infer(x=ROWS[:40])
    expected = 0.25 * np.sort(known(1, ROWS[:40])) + 0.75 * np.sort(known(-2, ROWS[:40]))
    np.testing.assert_allclose(result.outputs["fused"], expected, rtol=1e-5)
    found = np.array(result.prediction_intervals, dtype=float)
    np.testing.assert_allclose(found, expected[:, [0, 2]] + np.array([0.01, -0.01]), atol=1e-5)
