"""ONNX files as exporters write them: inputs by name, the meant output, classes by name; compared with scikit-learn."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.digests import check_member, pin
from quorate.deployments.spec.model_files.notes import notes

CLASSES = ["setosa", "versicolor", "virginica"]


@pytest.fixture(scope="module")
def iris():
    rows, classes = load_iris(return_X_y=True)
    return rows.astype(np.float32), classes


def spec(model, inputs=None, classes=(), output="probabilities", **words):
    inputs = inputs or {"x": {"datatype": "FP32", "shape": [4]}}
    member = {"model": model, "inputs": list(inputs), "output": output, **words}
    rest = {"classes": list(classes)} if classes else {}
    return parse_spec({"name": "one", "inputs": inputs, "members": {"m": member}, "fusion": {"rule": "mean"}, **rest})


def predictor(spec, folder):
    found = Predictor(load_model("m", spec.members["m"], folder), spec.job("m"))
    found.warm_up()
    return found


def ran(spec, folder, **inputs):
    values, status = predictor(spec, folder).run(inputs, probabilities=True)
    assert not status.any()
    return values


def graph(path, nodes, inputs, outputs, weights=(), **words):
    """A file of these nodes; inputs and outputs are (name, type, shape)."""
    read, given = ([helper.make_tensor_value_info(*one) for one in some] for some in (inputs, outputs))
    model = helper.make_model(
        helper.make_graph(nodes, "g", read, given, list(weights)),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, path, **words)


@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize("labels", ["names", "numbers"])
def test_a_classifier_of_sklearn_onnx_gives_scikit_learns_probabilities(iris, tmp_path, zipmap, labels):
    rows, classes = iris
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(rows, np.array(CLASSES)[classes] if labels == "names" else classes)
    exported = to_onnx(model, rows[:1], options={"zipmap": zipmap})
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    # The classes of the ensemble in another order: columns are matched by the file's own names.
    order = [2, 0, 1] if labels == "names" else [0, 1, 2]
    names = [CLASSES[place] for place in order] if labels == "names" else ["0", "1", "2"]
    found = ran(spec("m.onnx", classes=names), tmp_path, x=rows)
    np.testing.assert_allclose(found, model.predict_proba(rows)[:, order], atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(), GaussianNB(), OneVsRestClassifier(LogisticRegression()),
        RandomForestClassifier(n_estimators=3, random_state=0), MLPClassifier(max_iter=20, random_state=0),
        CalibratedClassifierCV(GaussianNB()),
    ],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
@pytest.mark.parametrize("names", [CLASSES, ["7", "3", "5"]], ids=["names", "numbers"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_columns_are_matched_by_name_whichever_way_a_classifier_is_written(iris, tmp_path, model, names):
    rows, classes = iris
    labels = np.array(names)[classes] if names == CLASSES else np.array(names, dtype=int)[classes]
    model = clone(model).fit(rows, labels)
    (tmp_path / "m.onnx").write_bytes(to_onnx(model, rows[:1], options={"zipmap": False}).SerializeToString())
    asked = ["versicolor", "virginica", "setosa"] if names == CLASSES else ["7", "5", "3"]
    order = [[str(name) for name in model.classes_].index(name) for name in asked]
    found = ran(spec("m.onnx", classes=asked), tmp_path, x=rows)
    np.testing.assert_allclose(found, model.predict_proba(rows)[:, order], atol=1e-5)


def test_numbered_classes_of_a_file_stand_in_the_order_of_the_spec(iris, tmp_path):
    rows, classes = iris
    model = LogisticRegression(max_iter=500).fit(rows, classes)
    (tmp_path / "m.onnx").write_bytes(to_onnx(model, rows[:1]).SerializeToString())
    found = ran(spec("m.onnx", classes=CLASSES), tmp_path, x=rows)
    np.testing.assert_allclose(found, model.predict_proba(rows), atol=1e-6)


def test_classes_that_the_ensemble_has_not_are_refused(iris, tmp_path):
    rows, classes = iris
    model = LogisticRegression(max_iter=500).fit(rows, np.array(CLASSES)[classes])
    (tmp_path / "m.onnx").write_bytes(to_onnx(model, rows[:1]).SerializeToString())
    with pytest.raises(MemberLoadError, match="model's classes are setosa, versicolor, virginica, and the ensemble's"):
        predictor(spec("m.onnx", classes=["a", "b", "c"]), tmp_path)
    with pytest.raises(MemberLoadError, match=r"gives .*label.* write output: probabilities for \w*probabilit\w*, or"):
        predictor(spec("m.onnx", classes=CLASSES, output="logits"), tmp_path)


def test_a_regressor_gives_scikit_learns_values(iris, tmp_path):
    rows, classes = iris
    model = LinearRegression().fit(rows, classes)
    (tmp_path / "m.onnx").write_bytes(to_onnx(model, rows[:1]).SerializeToString())
    found = ran(spec("m.onnx", output="values"), tmp_path, x=rows)
    np.testing.assert_allclose(found[:, 0], model.predict(rows), atol=1e-5)


def difference(path, shape=("n", 1), kind=TensorProto.FLOAT):
    node = helper.make_node("Sub", ["price", "cost"], ["profit"])
    loss = helper.make_node("Neg", ["profit"], ["loss"])
    inputs = [("price", kind, list(shape)), ("cost", kind, list(shape))]
    graph(path, [node, loss], inputs, [("profit", kind, list(shape)), ("loss", kind, list(shape))])


def tensors(*names, datatype="FP32", shape=(1,)):
    return {name: {"datatype": datatype, "shape": list(shape)} for name in names}


PRICE, COST = np.array([[5.0], [7.0], [1.0]], np.float32), np.array([[2.0], [3.0], [4.0]], np.float32)


def test_inputs_are_bound_by_their_names_in_whatever_order_the_member_lists_them(tmp_path):
    difference(tmp_path / "m.onnx")
    asked = spec("m.onnx", tensors("cost", "price"), output="values", output_name="profit")
    np.testing.assert_array_equal(ran(asked, tmp_path, price=PRICE, cost=COST), PRICE - COST)
    asked = spec("m.onnx", tensors("cost", "price"), output="values", output_name="loss")
    np.testing.assert_array_equal(ran(asked, tmp_path, price=PRICE, cost=COST), COST - PRICE)


def test_one_number_a_row_fits_a_column(tmp_path):
    difference(tmp_path / "m.onnx")
    asked = spec("m.onnx", tensors("cost", "price", shape=()), output="values", output_name="profit")
    np.testing.assert_array_equal(ran(asked, tmp_path, price=PRICE[:, 0], cost=COST[:, 0]), PRICE - COST)


@pytest.mark.parametrize(
    ("inputs", "words", "sentence"),
    [
        (tensors("a", "b"), {"output_name": "loss"},
         r"m\.onnx reads price \(FP32 \[-1, 1\]\), cost \(FP32 \[-1, 1\]\), and the member a, b; say which is which"),
        (tensors("price", "cost"), {},
         r"gives profit \(FP32 \[-1, 1\]\), loss \(FP32 \[-1, 1\]\); say which .* output_name: profit"),
        (tensors("price", "cost"), {"output_name": "gain"}, "no output 'gain'; it gives profit .*, loss"),
        (tensors("price", "cost", datatype="FP64"), {"output_name": "loss"},
         "the file's input 'price' is FP32, and gets FP64"),
        (tensors("price", "cost", datatype="INT64"), {"output_name": "loss"}, "is FP32, and gets INT64"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_file_is_refused_with_what_it_has(tmp_path, inputs, words, sentence):
    difference(tmp_path / "m.onnx")
    with pytest.raises(MemberLoadError, match=sentence):
        predictor(spec("m.onnx", inputs, output="values", **words), tmp_path)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (tensors("a", "b"), r"members\.m\.inputs: m\.onnx reads price \(FP32 \[-1, 1\]\), cost .* the member a, b"),
        (tensors("price", "cost", shape=(2,)),
         r"inputs\.price\.shape: \[2\], and m\.onnx reads FP32 \[-1, 1\]; write shape: \[1\]"),
        (tensors("price", "cost", datatype="FP64"),
         r"inputs\.price\.datatype: FP64, and m\.onnx reads FP32 \[-1, 1\]; write datatype: FP32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_file_is_said_when_the_spec_is_checked(tmp_path, inputs, sentence):
    difference(tmp_path / "m.onnx")
    with pytest.raises(SpecError, match=sentence):
        check_files(spec("m.onnx", inputs, output="values"), tmp_path)
    for fits in (tensors("cost", "price"), tensors("cost", "price", shape=()), tensors("cost", "price", shape=(-1,))):
        check_files(spec("m.onnx", fits, output="values"), tmp_path)


def test_a_file_that_reads_what_a_step_makes_fits_other_inputs(tmp_path):
    difference(tmp_path / "m.onnx", shape=("n", 2))
    inputs = {**tensors("price", datatype="BYTES", shape=()), **tensors("cost", datatype="FP64", shape=(2,))}
    steps = {"price": {"one_hot": ["low", "high"]}, "cost": {"standardise": {"mean": 1.0, "std": 2.0}}}
    asked = spec("m.onnx", inputs, output="values", output_name="profit", preprocess=steps)
    check_files(asked, tmp_path)
    found = ran(asked, tmp_path, price=np.array([b"high", b"low"], dtype=object), cost=np.array([[1.0, 3.0]] * 2))
    np.testing.assert_array_equal(found, [[0.0, 0.0], [1.0, -1.0]])


def test_numbers_become_the_files_type_where_nothing_is_lost(tmp_path):
    difference(tmp_path / "m.onnx", kind=TensorProto.DOUBLE)
    for datatype, dtype in (("FP32", np.float32), ("INT32", np.int32), ("UINT8", np.uint8)):
        asked = spec("m.onnx", tensors("price", "cost", datatype=datatype), output="values", output_name="profit")
        found = ran(asked, tmp_path, price=PRICE.astype(dtype), cost=COST.astype(dtype))
        np.testing.assert_array_equal(found, PRICE - COST)


def test_a_file_for_one_row_at_a_time_answers_batches_and_a_note_says_so(tmp_path):
    difference(tmp_path / "m.onnx", shape=(1, 1))
    asked = spec("m.onnx", tensors("cost", "price"), output="values", output_name="profit")
    np.testing.assert_array_equal(ran(asked, tmp_path, price=PRICE, cost=COST), PRICE - COST)
    assert [note.partition(";")[0] for note in notes(asked, tmp_path)] == [
        "members.m: m.onnx was exported for a row at a time, and is run so"
    ]


def test_files_in_which_it_keeps_its_tensors_are_part_of_the_revision(tmp_path):
    weight = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "w")
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    (tmp_path / "sub").mkdir()
    graph(
        tmp_path / "sub" / "m.onnx", [matmul], [("x", TensorProto.FLOAT, ["n", 4])],
        [("y", TensorProto.FLOAT, ["n", 2])], [weight], save_as_external_data=True, location="m.onnx.data",
        size_threshold=0,
    )  # fmt: skip
    asked = spec("sub/m.onnx", output="values")
    rows = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(ran(asked, tmp_path, x=rows), np.arange(8).reshape(4, 2))
    pinned = pin(asked, tmp_path)
    assert sorted(pinned.digests) == ["members.m.model", "members.m.model.data.0"]
    data = tmp_path / "sub" / "m.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    assert pin(asked, tmp_path).revision != pinned.revision
    with pytest.raises(SpecError, match=r"members\.m\.model\.data\.0: it has sha256.* was deployed"):
        check_member(pinned.job("m"), tmp_path)


def test_texts_are_read_as_text(tmp_path):
    node = helper.make_node("LabelEncoder", ["s"], ["n"], domain="ai.onnx.ml", keys_strings=["on", "off"],
                            values_floats=[1.0, 0.0], default_float=-1.0)  # fmt: skip
    made = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("s", TensorProto.STRING, ["n", 1])],
        [helper.make_tensor_value_info("n", TensorProto.FLOAT, ["n", 1])],
    )  # fmt: skip
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("ai.onnx.ml", 2)], ir_version=8),
              tmp_path / "m.onnx")  # fmt: skip
    asked = spec("m.onnx", tensors("s", datatype="BYTES"), output="values")
    found = ran(asked, tmp_path, s=np.array([[b"on"], [b"off"], [b"?"]], dtype=object))
    assert found.tolist() == [[1.0], [0.0], [-1.0]]


def test_it_runs_on_as_many_threads_as_the_member_has_cpus(tmp_path, monkeypatch):
    difference(tmp_path / "m.onnx")
    made, known = [], onnxruntime.InferenceSession

    def session(path, options, **words):
        made.append(options)
        return known(path, options, **words)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    for cpus in (0.5, 3):
        asked = spec("m.onnx", tensors("cost", "price"), output="values", output_name="loss",
                     resources={"num_cpus": cpus})  # fmt: skip
        predictor(asked, tmp_path)
    assert [options.intra_op_num_threads for options in made] == [1, 3]


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x80\x04K\x01.", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_file_of_onnx_is_refused(tmp_path, junk):
    (tmp_path / "m.onnx").write_bytes(junk)
    with pytest.raises(MemberLoadError, match=r"m\.onnx cannot be loaded: m\.onnx is no ONNX file: .*; export it"):
        predictor(spec("m.onnx", output="values"), tmp_path)
    assert notes(spec("m.onnx", output="values"), tmp_path) == ()
    with pytest.raises(SpecError, match=r"members\.m\.model: m\.onnx is no ONNX file: .*; export it again"):
        check_files(spec("m.onnx", output="values"), tmp_path)
