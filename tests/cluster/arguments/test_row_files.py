import json

import numpy as np
import pandas as pd
import pytest

from quorate.cluster.arguments.row_files import read_arrays
from quorate.deployments.errors import RequestError

ONE = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
TWO = [{"name": "age", "datatype": "FP32", "shape": [-1]}, {"name": "job", "datatype": "BYTES", "shape": [-1]}]
FRAME = pd.DataFrame({"age": [39, 50], "job": ["clerk", "cook"]})


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("columns.json", lambda path: path.write_text(json.dumps(FRAME.to_dict("list")))),
        ("records.json", lambda path: FRAME.to_json(path, orient="records")),
        ("rows.npz", lambda path: np.savez(path, age=[39, 50], job=np.array(["clerk", "cook"]))),
    ],
)
def test_columns_and_records_are_read_in_the_models_datatypes(tmp_path, name, write):
    write(tmp_path / name)
    found = read_arrays(tmp_path / name, TWO)
    assert found["age"].dtype == np.float32
    assert found["age"].tolist() == [39, 50]
    assert found["job"].tolist() == [b"clerk", b"cook"]


def test_a_file_of_float64_takes_the_models_width_and_one_row_its_batch_dimension(tmp_path):
    np.save(tmp_path / "row.npy", np.array([1.0, 2.0]))
    found = read_arrays(tmp_path / "row.npy", ONE)
    assert found["x"].dtype == np.float32
    assert found["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("one.npy", lambda path: np.save(path, np.zeros(2)), "holds one array but the model reads age, job"),
        ("odd.json", lambda path: path.write_text('{"y": [1]}'), "holds 'y', which the model does not read"),
        ("rows.csv", lambda path: path.write_text("age"), "rows.csv is no .npy, .npz, .json, .parquet or .arrow"),
        ("words.npz", lambda path: np.savez(path, age=[1], job=np.array(["a"], object)), "array of dtype 'U'"),
        ("none.npz", lambda path: None, "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_a_sentence(tmp_path, name, write, sentence):
    write(tmp_path / name)
    with pytest.raises(RequestError) as error:
        read_arrays(tmp_path / name, TWO)
    assert sentence in str(error.value)
