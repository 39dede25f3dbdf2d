import numpy as np
import pandas as pd
import pytest

from quorate.tuning import read_predictions
from quorate.tuning.errors import DataError

COLUMNS = {
    "label": ["010", "8", "010", "8"],
    "net/010": [0.9, 0.2, 0.7, 0.4],
    "net/8": [0.1, 0.8, 0.3, 0.6],
    "forest/8": [0.0, 1.0, 0.5, 0.5],
    "forest/010": [1.0, 0.0, 0.5, 0.5],
    "split": ["solve", "judge", "judge", "solve"],
    "group": ["p", "q", "q", "r"],
    "time": [3, 1, 2, 5],
    "weight": [1.0, 2.0, 0.0, 1.0],
}


def written(folder, ending, columns):
    path = folder / f"oof{ending}"
    table = pd.DataFrame(columns)
    if ending == ".npz":
        np.savez(path, allow_pickle=False, **{name: np.array(column) for name, column in columns.items()})
    else:
        {".csv": lambda: table.to_csv(path, index=False), ".parquet": lambda: table.to_parquet(path)}[ending]()
    return path


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npz"])
def test_members_and_classes_come_from_the_columns_whatever_their_order(tmp_path, ending):
    found = read_predictions(written(tmp_path, ending, COLUMNS))
    assert (found.names, found.classes) == (("net", "forest"), ("010", "8"))
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.outputs[1].tolist() == [[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5]]
    assert found.judged is not None
    assert found.judged.tolist() == [False, True, True, False]
    assert found.groups is not None
    assert found.groups.tolist() == ["p", "q", "q", "r"]
    assert found.times is not None
    assert found.times.tolist() == [3, 1, 2, 5]
    assert found.weights is not None
    assert found.weights.tolist() == [1, 2, 0, 1]


def test_columns_without_classes_are_values(tmp_path):
    found = read_predictions(written(tmp_path, ".csv", {"y": [1.5, 2], "a": [1, 2], "b": [2.0, 2.5]}), label="y")
    assert (found.names, found.classes) == (("a", "b"), ())
    assert found.labels.tolist() == [1.5, 2.0]
    assert found.outputs.shape == (2, 2, 1)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"label": None}, "no column 'label'; it has net/010, net/8"),
        ({"forest/8": None}, "no column 'forest/8'; give each member a column for each class"),
        ({"extra": [1.0] * 4}, "column 'extra' names no class; name all columns MEMBER/CLASS"),
        ({"label": ["010", "8", "9", "8"]}, "labels that are no class: 9"),
        ({"net/8": ["a", "b", "c", "d"]}, "column 'net/8' holds str such as 'a'; give one number a row"),
        ({"split": ["solve", "test", "judge", "judge"]}, "column 'split' says 'test'; write solve or judge"),
        ({"split": ["solve"] * 4}, "all rows are to solve"),
        ({"weight": [1.0, -1.0, 1.0, 1.0]}, "column 'weight' holds numbers from -1.0 to 1.0; give numbers >= 0"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, changed, sentence):
    columns = {name: column for name, column in {**COLUMNS, **changed}.items() if column is not None}
    with pytest.raises(DataError, match=r"oof\.csv: " + sentence):
        read_predictions(written(tmp_path, ".csv", columns))


def test_files_that_are_none_are_sentences(tmp_path):
    (tmp_path / "torn.csv").write_bytes(b"a,b\n1\n")
    (tmp_path / "empty.csv").write_bytes(b"label,a/0,a/1\n")
    for name, sentence in (
        ("torn.csv", "torn.csv: no table: .*Expected 2 columns, got 1"),
        ("empty.csv", "no rows; give hundreds"),
        ("none.csv", "no such file"),
        ("rows.txt", "no such file"),
    ):
        with pytest.raises(DataError, match=sentence):
            read_predictions(tmp_path / name)
