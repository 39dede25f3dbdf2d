"""Files, folders and frames, each written by the library that people write them with, as a model's inputs."""

import gzip
import json
import wave
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import feather, parquet

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.reading import Wanted, read_inputs
from quorate.deployments.rows.uneven import runs

FRAME = pd.DataFrame({"age": [39, 50, None], "job": ["clerk", None, "cook"], "n": [1, 2, 3], "label": ["a", "b", "a"]})
PERSON = {"age": Wanted("FP32", ()), "job": Wanted("BYTES", (1,)), "n": Wanted("INT64", (1,))}
IMAGES = np.arange(16, dtype=np.float64).reshape(2, 2, 4)
X = {"x": Wanted("FP32", (2, 4))}


def same(found):
    np.testing.assert_array_equal(found["age"], np.array([39, 50, np.nan], np.float32))
    assert found["age"].dtype == np.float32
    assert found["job"].tolist() == [[b"clerk"], [b""], [b"cook"]]
    assert found["n"].dtype == np.int64
    assert found["n"].tolist() == [[1], [2], [3]]


def stream(path):
    table = pa.Table.from_pandas(FRAME)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS = {
    "rows.csv": lambda path: FRAME.to_csv(path, index=False),
    "rows.csv.gz": lambda path: FRAME.to_csv(path, index=False),
    "rows.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "rows.parquet": FRAME.to_parquet,
    "rows.feather": FRAME.to_feather,
    "rows.arrow": stream,
    "file.arrow": lambda path: feather.write_feather(FRAME, path, chunksize=1),
    "columns.json": FRAME.to_json,
    "records.json": lambda path: FRAME.to_json(path, orient="records"),
    "lists.json": lambda path: path.write_text(
        '{"n": [1, 2, 3], "age": [39, 50.0, null], "job": ["clerk", null, "cook"]}'
    ),
    "lines.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "lines.json": lambda path: FRAME.to_json(path, orient="records", lines=True),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_each_kind_of_file_gives_the_same_inputs(tmp_path, name):
    WRITERS[name](tmp_path / name)
    if name == "rows.csv.gz":
        assert gzip.decompress((tmp_path / name).read_bytes()).startswith(b"age,")
    same(read_inputs(tmp_path / name, PERSON))


FRAMES = {
    "pandas": FRAME,
    "pandas of Arrow": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "pandas of nullable types": FRAME.convert_dtypes(),
    "pandas of categories": FRAME.astype({"job": "category"}),
    "polars": pl.from_pandas(FRAME),
    "a table of Arrow": pa.Table.from_pandas(FRAME),
    "a record batch": pa.RecordBatch.from_pandas(FRAME),
    "arrays": {"age": np.array([39, 50, np.nan]), "job": np.array(["clerk", "", "cook"]), "n": np.array([1, 2, 3])},
    "objects": {name: FRAME[name].to_numpy(object) for name in FRAME},
}  # fmt: skip


@pytest.mark.parametrize("kind", FRAMES)
def test_each_kind_of_frame_gives_the_same_inputs(kind):
    same(read_inputs(FRAMES[kind], PERSON))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(IMAGES.tolist()),
        pa.array(IMAGES.reshape(2, 8).tolist()),
        pa.array(IMAGES[:, None].tolist()),
        pa.FixedSizeListArray.from_arrays(pa.array(IMAGES.ravel()), 8),
        pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES),
        pa.array(IMAGES.tolist(), pa.list_view(pa.large_list(pa.float16()))),
    ],
)
def test_nested_flat_and_unit_sizes_are_the_shape_that_the_model_reads(tmp_path, column):
    if pa.types.is_list_view(column.type):  # Parquet has none
        feather.write_feather(pa.table({"x": column}), tmp_path / "rows.arrow")
    else:
        parquet.write_table(pa.table({"x": column}), tmp_path / "rows.parquet")
    (path,) = tmp_path.iterdir()
    found = read_inputs(path, X)["x"]
    np.testing.assert_array_equal(found, IMAGES)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("rows", "shape"), [([1, 2], (1,)), ([[1], [2]], ()), ([[[1]], [[2]]], (1,)), ([1, 2], (1, 1))]
)
def test_a_plain_number_is_a_row_of_shape_1_and_the_other_way_round(tmp_path, rows, shape):
    (tmp_path / "rows.json").write_text(json.dumps({"x": rows}))
    found = read_inputs(tmp_path / "rows.json", {"x": Wanted("INT32", shape)})["x"]
    assert found.shape == (2, *shape)
    assert found.ravel().tolist() == [1, 2]


def test_the_first_axis_of_an_array_is_always_its_rows(tmp_path):
    np.save(tmp_path / "row.npy", np.array([1.0, 2.0]))
    with pytest.raises(
        RowsError, match=r"rows of shape \[\], the model reads \[2\]; it holds one row without the axis"
    ):
        read_inputs(tmp_path / "row.npy", {"x": Wanted("FP32", (2,))})
    np.save(tmp_path / "rows.npy", np.array([[1.0, 2.0]]))
    assert read_inputs(tmp_path / "rows.npy", {"x": Wanted("FP32", (2,))})["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("columns", "shape", "expected"),
    [
        ({"x": "n"}, (1,), [[1], [2], [3]]),
        ({"x": "n,age"}, (2,), [[1, 39], [2, 50], [3, np.nan]]),
        ({"x": ["age", "n"]}, (2,), [[39, 1], [50, 2], [np.nan, 3]]),
        ({"x": "[an]*"}, (2, 1), [[[39], [1]], [[50], [2]], [[np.nan], [3]]]),
    ],
)
def test_columns_are_named_or_make_a_vector(columns, shape, expected):
    np.testing.assert_array_equal(read_inputs(FRAME, {"x": Wanted("FP32", shape)}, columns)["x"], expected)


def test_a_request_of_the_protocol_is_rows(tmp_path):
    item = {"name": "x", "datatype": "FP32", "shape": [2, 2, 4], "data": IMAGES.ravel().tolist()}
    (tmp_path / "request.json").write_text(json.dumps({"inputs": [item]}))
    np.testing.assert_array_equal(read_inputs(tmp_path / "request.json", X)["x"], IMAGES)


def test_images_with_a_table_beside_them_are_their_bytes(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("one.png", "deep/two.jpg"):
        Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,label,age\ndeep/two.jpg,cat,7\none.png,dog,\n")
    found = read_inputs(tmp_path, {"image": Wanted("BYTES", (1,)), "age": Wanted("FP32", ())})
    assert found["image"].tolist() == [[(tmp_path / name).read_bytes()] for name in ("deep/two.jpg", "one.png")]
    np.testing.assert_array_equal(found["age"], [7, np.nan])
    (tmp_path / "metadata.csv").write_text("file_name\n../secret.png\n")
    with pytest.raises(RowsError, match=r"row 0: '\.\./secret\.png' is no path below the folder"):
        read_inputs(tmp_path, {"image": Wanted("BYTES", ())})
    (tmp_path / "metadata.csv").write_text("file_name\none.png\nnone.png\n")
    with pytest.raises(RowsError, match=r"column 'image', row 1: none\.png cannot be read"):
        read_inputs(tmp_path, {"image": Wanted("BYTES", ())})


def test_a_folder_for_each_class_names_the_label(tmp_path):
    for kind in ("dog", "cat"):
        (tmp_path / kind).mkdir()
        Image.new("L", (1, 1)).save(tmp_path / kind / "a.png")
    found = read_inputs(tmp_path, {"image": Wanted("BYTES", ()), "label": Wanted("BYTES", ())})
    assert found["label"].tolist() == [b"cat", b"dog"]


def write_wav(path, samples, width, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else len(samples))
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.T.tobytes())


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_samples_of_sounds_are_what_scipy_wrote(tmp_path, kind):
    from scipy.io import wavfile

    random = np.random.default_rng(0)
    sounds = random.uniform(-1, 1, (2, 2, 50))
    if np.dtype(kind).kind != "f":
        limits = np.iinfo(kind)
        sounds = random.integers(limits.min, limits.max, (2, 2, 50), kind, endpoint=True)
    sounds = sounds.astype(kind)
    for name, sound in zip(("a.wav", "b.wav"), sounds, strict=True):
        wavfile.write(tmp_path / name, 8000, sound.T)
    (tmp_path / "labels.csv").write_text("file,label\na.wav,yes\nb.wav,no\n")
    found = read_inputs(tmp_path, {"audio": Wanted("FP32", (2, 50))})["audio"]
    zero, one = {"u": (128, 128), "i": (0, 2.0 ** (8 * sounds.itemsize - 1)), "f": (0, 1)}[sounds.dtype.kind]
    np.testing.assert_allclose(found, (sounds.astype(np.float64) - zero) / one, rtol=1e-6)
    raw = read_inputs(tmp_path, {"audio": Wanted("BYTES", ())})["audio"].tolist()
    assert raw == [(tmp_path / name).read_bytes() for name in ("a.wav", "b.wav")]


def test_samples_of_24_bits_in_a_file_with_other_parts_are_what_scipy_reads(tmp_path):
    from scipy.io import wavfile

    write_wav(tmp_path / "a.wav", np.arange(90, dtype=np.uint8), 3)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[:12] + b"LIST\x03\0\0\0abc\0" + data[12:])
    expected = wavfile.read(tmp_path / "a.wav")[1] / 2.0**31
    np.testing.assert_allclose(read_inputs(tmp_path, {"audio": Wanted("FP32", (-1,))})["audio"][0], expected, rtol=1e-6)


def test_sounds_of_another_rate_are_named_and_of_other_lengths_only_where_the_model_reads_one(tmp_path):
    write_wav(tmp_path / "a.wav", np.arange(50, dtype="<i2"), 2)
    write_wav(tmp_path / "b.wav", np.arange(40, dtype="<i2"), 2)
    found = read_inputs(tmp_path, {"audio": Wanted("FP32", (-1,))})["audio"]
    assert [(row * 2**15).tolist() for row in found] == [list(range(50)), list(range(40))]
    with pytest.raises(RowsError, match=r"row 1: shape \[40\], and \[50\] before; rows of one tensor"):
        read_inputs(tmp_path, {"audio": Wanted("FP32", (50,))})
    write_wav(tmp_path / "b.wav", np.zeros(50, "<i2"), 2, 16000)
    with pytest.raises(RowsError, match="row 1: 16000 samples"):
        read_inputs(tmp_path, {"audio": Wanted("FP32", (-1,))})


SEQUENCES = [[[1.5, 2], [3, 4]], [[5, 6]], [], [[7, 8]]]  # (steps, 2)


def ragged(kind, folder) -> Any:
    (folder / "rows.json").write_text(json.dumps({"x": SEQUENCES}))
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"x": row}) for row in SEQUENCES))
    pairs = pa.array(SEQUENCES, pa.large_list(pa.list_(pa.float32(), 2)))
    return {
        "lists": pa.table({"x": SEQUENCES}), "pairs": pa.table({"x": pairs}), "polars": pl.DataFrame({"x": SEQUENCES}),
        "pandas": pd.DataFrame({"x": [np.array(row).reshape(-1, 2) for row in SEQUENCES]}),
        "slices": pa.table({"x": [[[0, 0]], *SEQUENCES, [[9, 9]]]}).slice(1, 4),
        "objects": {"x": pd.Series(SEQUENCES).to_numpy()},
        "json": folder / "rows.json", "jsonl": folder / "rows.jsonl",
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["lists", "pairs", "polars", "pandas", "slices", "objects", "json", "jsonl"])
def test_rows_of_other_lengths_are_arrays_of_their_own_where_a_size_is_free(tmp_path, kind):
    given = ragged(kind, tmp_path)
    found = read_inputs(given, {"x": Wanted("FP32", (-1, 2))})["x"]
    assert [(row.dtype, row.shape[1:]) for row in found] == [(np.float32, (2,))] * 4
    assert [row.tolist() for row in found] == SEQUENCES
    assert [len(part["x"]) for part in runs({"x": found})] == [1] * 4
    with pytest.raises(RowsError, match=r"row 1: shape .*, and .* before; rows of one tensor have one shape"):
        read_inputs(given, {"x": Wanted("FP32", (2, 2))})
    with pytest.raises(RowsError, match=r"row 0: shape \[2, 2\], the model reads \[-1, 3\]"):
        read_inputs(given, {"x": Wanted("FP32", (-1, 3))})


def test_batches_of_one_length_each_are_rows_of_other_lengths_together():
    table = pa.Table.from_batches([pa.record_batch({"x": [[1, 2]] * 2}), pa.record_batch({"x": [[3]]})])
    found = read_inputs(table, {"x": Wanted("INT32", (-1,))})["x"]
    assert [row.tolist() for row in found] == [[1, 2], [1, 2], [3]]
    assert [part["x"].tolist() for part in runs({"x": found})] == [[[1, 2], [1, 2]], [[3]]]


def test_what_is_uneven_within_a_row_or_too_large_in_one_is_named_by_its_row():
    for given in ({"x": pd.Series([[[1, 2]], [[1, 2], [3]]]).to_numpy()}, pa.table({"x": [[[1, 2]], [[1, 2], [3]]]})):
        with pytest.raises(RowsError, match="row 1: lists of other lengths in it"):
            read_inputs(given, {"x": Wanted("FP32", (-1, -1))})
    with pytest.raises(RowsError, match="row 1: 300 is beyond INT8"):
        read_inputs(pa.table({"x": [[1], [2, 300], [3]]}), {"x": Wanted("INT8", (-1,))})


def save_like_hugging_face(folder, table):
    """The files of ``datasets.Dataset.save_to_disk``, as version 5 writes them."""
    folder.mkdir()
    names = [f"data-{number:05}-of-00002.arrow" for number in range(2)]
    for name, part in zip(names, (table.slice(0, 1), table.slice(1)), strict=True):
        with pa.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(part)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_data_set_that_hugging_face_saved_is_read_with_its_images_and_names_of_classes(tmp_path):
    image = pa.array([{"bytes": b"png", "path": None}] * 3, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    table = pa.table({"image": image, "label": pa.array([1, 0, -1])})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    save_like_hugging_face(tmp_path / "train", table)
    found = read_inputs(tmp_path / "train", {"image": Wanted("BYTES", ()), "label": Wanted("BYTES", ())})
    assert found["image"].tolist() == [b"png"] * 3
    assert found["label"].tolist() == [b"dog", b"cat", b""]
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    with pytest.raises(RowsError, match=r"a data set of train, test; give one of them, such as .*train"):
        read_inputs(tmp_path, {"image": Wanted("BYTES", ())})


REFUSED = [
    ("rows.xls", "age", "rows.xls: unknown kind '.xls'; give a .csv"),
    ("rows.csv", "age,age\n1,2\n", "rows.csv: column 'age' is there twice"),
    ("rows.csv", "", "rows.csv: no table"),
    ("rows.csv", "age,job,n\n", "rows.csv: no rows"),
    ("rows.csv", "age,job,n\n1,a,1\n1,b,?\n", "column 'n', row 1: '?' is no INT64"),
    ("rows.csv", "age,job,n\n1,a,1\n1,b,\n", "column 'n', row 1: missing, and INT64"),
    ("rows.csv", "age,job,n\n1,a,1.5\n", "column 'n', row 0: 1.5 is no INT64"),
    ("rows.csv", "age,job,n\n1,a,1_0\n", "column 'n', row 0: '1_0' is no INT64"),
    ("rows.json", '{"y": [1]}', "rows.json: no column 'age'; it has y; name it as the spec does, or say --column age="),
    ("rows.json", '{"age": [1, 2], "job": ["a"], "n": [1]}', "2 rows of 'age', 1 rows of 'job'"),
    ("rows.json", '{"age": [1], "job": [5], "n": [1]}', "column 'job' holds whole numbers, the model reads BYTES"),
    ("rows.json", '{"age": [[1, 2]], "job": [""], "n": [1]}', "column 'age' has rows of shape [2], the model reads []"),
    ("rows.json", '{"age": ["7"], "job": [""], "n": [1]}', "column 'age', row 0: '7', the model reads FP32"),
    ("rows.json", '{"age": [1e999], "job": [""], "n": [1e999]}', "column 'n', row 0: inf is beyond INT64"),
    ("rows.jsonl", '{"age": 1}\n[]\n', "rows.jsonl: line 2 is no record but []"),
    ("rows.jsonl", '{"age": 1}\n{', "rows.jsonl: line 2 is not JSON"),
]


@pytest.mark.parametrize(("name", "text", "sentence"), REFUSED)
def test_what_does_not_fit_is_refused_with_a_sentence(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(RowsError) as error:
        read_inputs(tmp_path / name, PERSON)
    assert sentence in str(error.value)


def test_arrays_that_do_not_fit_are_refused_with_a_sentence(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(2))
    with pytest.raises(RowsError, match=r"one\.npy: holds one array but the model reads age, job"):
        read_inputs(tmp_path / "one.npy", PERSON)
    np.savez(tmp_path / "words.npz", age=[1], job=np.array(["a"], object))
    with pytest.raises(RowsError, match=r"an array of Python objects .* text as an array of dtype 'U'"):
        read_inputs(tmp_path / "words.npz", PERSON)
    with pytest.raises(RowsError, match=r"none\.npz: no such file"):
        read_inputs(tmp_path / "none.npz", PERSON)


def test_rows_are_counted_over_all_batches(tmp_path):
    values = np.arange(10_000)
    values[9_000] = 300
    values[:9_000] %= 100
    values[9_001:] = 0
    for name, write in (("rows.parquet", parquet.write_table), ("rows.arrow", feather.write_feather)):
        write(pa.table({"x": values}), tmp_path / name)
        with pytest.raises(RowsError, match=f"{name}: column 'x', row 9000: 300 is beyond UINT8"):
            read_inputs(tmp_path / name, {"x": Wanted("UINT8", ())})


def test_a_name_that_stands_twice_is_refused_where_it_is_meant(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["x", "x", "y"])
    parquet.write_table(table, tmp_path / "rows.parquet")
    feather.write_feather(table, tmp_path / "rows.arrow")
    frame = pd.DataFrame([[1, 2, 3]], columns=["x", "x", "y"])
    for rows in (tmp_path / "rows.parquet", tmp_path / "rows.arrow", table, frame):
        with pytest.raises(RowsError, match="column 'x' is there twice; give each column a name of its own"):
            read_inputs(rows, {"x": Wanted("INT64", ())})
        assert read_inputs(rows, {"y": Wanted("INT64", ())})["y"].tolist() == [3]


def test_a_column_that_no_input_can_be_called_as_is_found_by_its_plain_name():
    frame = pd.DataFrame({"sepal length (cm)": [1.0], "petal-width": [2.0], "a b": [3.0], "a.b": [4.0]})
    asked = {"sepal_length_cm": Wanted("FP32", ()), "petal-width": Wanted("FP32", ())}
    assert {name: array.tolist() for name, array in read_inputs(frame, asked).items()} == {
        "sepal_length_cm": [1.0], "petal-width": [2.0],
    }  # fmt: skip
    with pytest.raises(RowsError, match="no column 'a_b'"):  # which of the two is meant?
        read_inputs(frame, {"a_b": Wanted("FP32", ())})
