"""The same file online and offline: a member that tells what it got gets the same bytes by ``tune`` and by a door."""

import json

import numpy as np
import pandas as pd
import pytest

from quorate.cluster.arguments.labelled_rows import read_rows
from quorate.cluster.operations.query import query
from quorate.cluster.operations.query_file import query_file
from quorate.tuning import run_in_process
from tests.deployments.support.member_threads import FACTORIES

RNG = np.random.default_rng(0)
# As pandas makes them: float64, int64, text with gaps, lists.
FRAME = pd.DataFrame(
    {
        "Age": [39.5, None, 51, 1e-3], "job": ["clerk", None, "", "caf\u00e9 NA"], "hours": [40, 13, 0, -5],
        "member": [True, False, False, True], "image": RNG.normal(size=(4, 6)).tolist(), "label": [1.0, 2, 3, 4],
    }
)  # fmt: skip
COLUMNS = {"age": "Age", "pair": "Age,hours"}


@pytest.fixture(scope="module")
def seen(open_doors):
    inputs = {
        "age": {"datatype": "FP32", "shape": []}, "job": {"datatype": "BYTES", "shape": [1]},
        "hours": {"datatype": "INT16", "shape": [1]}, "member": {"datatype": "BOOL", "shape": []},
        "image": {"datatype": "BF16", "shape": [1, 2, 3]}, "pair": {"datatype": "FP64", "shape": [2]},
    }  # fmt: skip
    member = {"model": "seen:digests", "inputs": list(inputs), "output": "values"}
    return open_doors({"name": "seen", "inputs": inputs, "members": {"m": member}, "fusion": {"rule": "mean"}})


@pytest.mark.parametrize("name", ["rows.parquet", "rows.feather", "rows.json", "rows.jsonl", "frame"])
def test_a_member_gets_the_same_bytes_from_a_file_online_and_offline(seen, tmp_path, name):
    rows = FRAME
    if name != "frame":
        rows = tmp_path / name
        if name == "rows.jsonl":
            rows.write_text("\n".join(json.dumps(record) for record in json.loads(FRAME.to_json(orient="records"))))
        else:
            getattr(FRAME, f"to_{name.partition('.')[2]}")(rows)
    spec = seen.engine.spec
    offline = run_in_process(spec.job("m"), FACTORIES, read_rows(spec, rows, "label", columns=COLUMNS).inputs)
    online = query("seen", rows, url=seen.http, columns=COLUMNS).outputs["fused"]
    np.testing.assert_array_equal(offline, online)
    assert len(np.unique(online, axis=0)) == 4
    expected = run_in_process(spec.job("m"), FACTORIES, read_rows(spec, FRAME, "label", columns=COLUMNS).inputs)
    np.testing.assert_array_equal(online, expected)  # whatever file it was
    done = query_file("seen", rows, tmp_path / "answers.parquet", url=seen.http, columns=COLUMNS)
    assert done.rows == 4
    bulk = np.stack(pd.read_parquet(tmp_path / "answers.parquet")["fused"])
    np.testing.assert_array_equal(bulk, online)
