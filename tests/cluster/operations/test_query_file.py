"""Files of rows to a running ensemble and back, as ``quorate query --output`` sends them."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from quorate.cluster.operations.query import query
from quorate.cluster.operations.query_file import query_file
from quorate.deployments import Client
from quorate.deployments.errors import RequestError

ROWS = np.random.default_rng(1).normal(size=(9000, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(pair):
    with Client(pair.http) as client:
        return client.infer("pair", x=ROWS).outputs["fused"]


def write(path, rows=ROWS):
    """Beside the input, columns that are nobody's business."""
    x = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2)
    table = pa.table({"id": pa.array(range(len(rows))), "x": x, "label": pa.repeat("red", len(rows))})
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=1000)
    elif "stream" in path.name:
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "stream.arrow"])
@pytest.mark.parametrize("output", ["answers.parquet", "answers.arrow"])
def test_a_file_of_rows_becomes_a_file_of_answers_in_the_same_order(pair, expected, tmp_path, name, output):
    done = query_file("pair", write(tmp_path / name), tmp_path / output, url=pair.http)
    assert (done.rows, done.degraded) == (len(ROWS), 0)
    if output.endswith(".parquet"):
        table = parquet.read_table(tmp_path / output)
    else:
        table = pa.ipc.open_file(str(tmp_path / output)).read_all()
    fused = table.column("fused").combine_chunks().flatten().to_numpy().reshape(-1, 3)
    np.testing.assert_array_equal(fused, expected)
    assert set(table.column("members_missing").to_pylist()) == {""}
    assert len(set(table.column("revision").to_pylist())) == 1


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_a_small_file_is_asked_like_any_other(pair, expected, tmp_path, name):
    result = query("pair", write(tmp_path / name, ROWS[:5]), url=pair.http)
    np.testing.assert_array_equal(result.outputs["fused"], expected[:5])


def test_a_file_that_does_not_fit_is_refused_with_a_sentence(pair, tmp_path):
    rows, answers = write(tmp_path / "rows.parquet"), tmp_path / "answers.parquet"
    (tmp_path / "text.parquet").write_text("no Parquet")
    (tmp_path / "rows.xls").write_text("x")
    parquet.write_table(pa.table({"y": [1.0]}), tmp_path / "other.parquet")
    for path, output, sentence in (
        (tmp_path / "rows.xls", answers, "rows.xls: unknown kind '.xls'"),
        (rows, tmp_path / "answers.csv", "answers.csv is neither .parquet nor .arrow"),
        (tmp_path / "text.parquet", answers, "text.parquet: damaged"),
        (tmp_path / "nowhere.parquet", answers, "nowhere.parquet: no such file"),
        (tmp_path / "other.parquet", answers, "other.parquet: no column 'x'; it has y"),
        (rows, tmp_path / "no folder" / "answers.parquet", "answers.parquet cannot be written"),
    ):
        with pytest.raises(RequestError) as error:
            query_file("pair", path, output, url=pair.http)
        assert sentence in str(error.value)
