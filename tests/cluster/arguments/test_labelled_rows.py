import numpy as np
import pytest

from quorate.cluster.arguments.labelled_rows import halves, read_rows, read_training_rows
from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.tuning import Labelled
from quorate.tuning.errors import DataError

SPEC = parse_spec(
    {
        "name": "tiny",
        "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
        "members": {"a": {"model": "torch.nn:Linear", "inputs": ["x"]}},
        "classes": ["left", "right"],
        "fusion": {"rule": "mean"},
    }
)


def labelled(rows):
    return Labelled({"x": np.arange(2.0 * rows).reshape(rows, 2)}, np.arange(rows) % 2, ("left", "right"))


def test_halves_share_no_row_and_have_the_same_mix_of_classes():
    first, second = halves(labelled(20), seed=3)
    both = np.concatenate([first.inputs["x"], second.inputs["x"]])
    assert sorted(both[:, 0]) == [2.0 * row for row in range(20)]
    assert first.labels.mean() == second.labels.mean() == 0.5


def test_one_row_cannot_be_halved():
    with pytest.raises(DataError, match="give hundreds"):
        halves(labelled(1), seed=0)


def test_a_table_and_rows_in_memory_are_read_as_the_spec_says(tmp_path):
    rows = labelled(6)
    np.savez(tmp_path / "rows.npz", x=rows.inputs["x"].astype(np.float32), label=np.array(rows.classes)[rows.labels])
    for read in (read_rows, read_training_rows):
        found = read(SPEC, rows, "label")
        assert found.inputs["x"].dtype == np.float32
        np.testing.assert_array_equal(found.inputs["x"], rows.inputs["x"])
        np.testing.assert_array_equal(read(SPEC, tmp_path / "rows.npz", "label").labels, rows.labels)


def test_labels_need_classes_to_be_matched_with(tmp_path):
    spec = parse_spec({**SPEC.model_dump(exclude_defaults=True), "classes": None, "members": {
        "a": {"model": "torch.nn:Linear", "inputs": ["x"], "output": "logits"}
    }})  # fmt: skip
    with pytest.raises(SpecError, match="name the classes in the spec"):
        read_rows(spec, tmp_path / "rows.npz", "label")
