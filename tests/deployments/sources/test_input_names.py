"""``inputs: {THEIRS: OURS}``: what a model calls its inputs is said in the spec, for every kind that has names."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import skops.io
import torch
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn

from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.spec.check_files import check_files
from quorate.deployments.spec.files import dump_spec, load_spec
from quorate.deployments.spec.model_files.input_names import places_of

A, B = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
FACTORIES = """
import torch

class Difference(torch.nn.Module):
    def forward(self, cost, price):
        return price - cost

def difference(cost, price):
    return price - cost

def anything():
    return lambda **given: given["price"] - given["cost"]

def positions():
    return lambda *given: given[0] - given[1]
"""


def spec(model, inputs, shape=(2,), **words):
    sources = list(inputs.values()) if isinstance(inputs, dict) else inputs
    tensors = {name: {"datatype": "FP32", "shape": list(shape)} for name in sources}
    member = {"model": model, "inputs": inputs, "output": "values", **words}
    return parse_spec({"name": "one", "inputs": tensors, "members": {"m": member}, "fusion": {"rule": "mean"}})


def ran(asked, folder, **inputs):
    check_files(asked, folder)
    found = Predictor(load_model("m", asked.members["m"], folder), asked.job("m"))
    found.warm_up()
    values, status = found.run(inputs, probabilities=True)
    assert not status.any()
    return values


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder with one difference of two inputs, price and cost, in each way to write it."""
    name = f"named_{abs(hash(tmp_path))}"
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    read = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2]) for n in ("price:0", "in/cost")]
    given = [helper.make_tensor_value_info("profit", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph([helper.make_node("Sub", ["price:0", "in/cost"], ["profit"])], "g", read, given)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(made, tmp_path / "m.onnx")
    dims = ({0: torch.export.Dim.AUTO},) * 2
    program = torch.export.export(Difference(), (torch.ones(2, 2), torch.ones(2, 2)), dynamic_shapes=dims)
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.save(torch.jit.trace(Difference(), (torch.ones(2, 2), torch.ones(2, 2))), tmp_path / "m.pt")
    return SimpleNamespace(folder=tmp_path, code=name)


class Difference(nn.Module):
    def forward(self, cost, price):
        return price - cost


PLAIN = {"price": "a", "cost": "b"}


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("m.onnx", {"price:0": "a", "in/cost": "b"}),
        ("m.pt2", PLAIN),
        ("m.pt", PLAIN),
        ("CODE:Difference", PLAIN),
        ("CODE:difference", PLAIN),
        ("CODE:anything", PLAIN),
    ],
)
def test_inputs_go_to_the_names_that_the_spec_says(models, model, inputs):
    model = model.replace("CODE", models.code)
    for order in (inputs, dict(reversed(inputs.items()))):
        np.testing.assert_array_equal(ran(spec(model, order), models.folder, a=A, b=B), A - B)


def test_a_feature_may_be_called_otherwise(tmp_path):
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    pipeline = LogisticRegression(max_iter=1000).fit(rows, labels)
    skops.io.dump(pipeline, tmp_path / "m.skops")
    called = dict(zip(rows.columns, "abcd", strict=True))
    words = {"output": "probabilities"}
    found = ran(
        spec("m.skops", dict(reversed(called.items())), (), **words), tmp_path,
        **{ours: rows[theirs].to_numpy(np.float32) for theirs, ours in called.items()},
    )  # fmt: skip
    np.testing.assert_allclose(found, pipeline.predict_proba(rows), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "inputs", "sentence"),
    [
        ("m.onnx", ["a", "b"], r"the file's name first: \{price:0: a, in/cost: b\}"),
        ("m.onnx", {"price": "a", "in/cost": "b"}, r"m\.onnx reads price:0 .*, and the member price, in/cost"),
        ("m.pt2", {"price": "a", "tax": "b"}, r"m\.pt2 reads cost .*, and the member price, tax"),
        ("m.pt", {"price": "a", "tax": "b"}, "the model reads no 'tax': its parameters are cost, price; give"),
        ("CODE:Difference", {"price": "a", "tax": "b"}, "reads no 'tax': its parameters are cost, price"),
        ("CODE:positions", PLAIN, "reads no 'price': its parameters have no names; give inputs as a list"),
    ],
)
def test_names_that_the_model_has_not_are_refused_with_those_that_it_has(models, model, inputs, sentence):
    with pytest.raises((SpecError, MemberLoadError), match=sentence):
        ran(spec(model.replace("CODE", models.code), inputs), models.folder, a=A, b=B)


@pytest.mark.parametrize(
    ("inputs", "words", "sentence"),
    [
        ({"x": "a", "y": "a"}, {}, r"\['a', 'a'\] names one twice"),
        ({"x": "a", "y": "all"}, {}, "'all' is no input"),
        (["a"], {"input_names": {"b": "x"}}, "the member reads no 'b'"),
        (["a", "b"], {"input_names": {"a": "x", "b": "x"}}, "two are called x"),
        ({"ids": "a"}, {"model": "hf:folder"}, r"hf: members have no names for their inputs; write a list, .* \[a\]"),
        (
            {"ids": "a"},
            {"preprocess": {"a": {"tokenizer": "folder"}}},
            "'a' is called ids, and its tokenizer names what it makes of it; write a: a",
        ),
    ],
)
def test_what_names_nothing_is_refused(inputs, words, sentence):
    tensors = {"a": {"datatype": "BYTES", "shape": []}, "b": "FP32"}
    member = {"model": "m.onnx", "inputs": inputs, "output": "values", **words}
    beside = {"model": "b.onnx", "inputs": ["b"], "output": "values"}
    with pytest.raises(SpecError, match=sentence):
        parse_spec(
            {"name": "one", "inputs": tensors, "members": {"m": member, "n": beside}, "fusion": {"rule": "mean"}}
        )


def test_a_spec_that_is_written_back_is_the_same(models, tmp_path):
    path = models.folder / "spec.yaml"
    path.write_text(dump_spec(spec("m.onnx", {"price:0": "a", "in/cost": "b"})))
    assert load_spec(path) == spec("m.onnx", {"price:0": "a", "in/cost": "b"})
    plain = spec("m.onnx", ["a", "b"]).model_dump(mode="json")["members"]["m"]
    assert "python" not in plain  # names of revisions are what they were before this field


def test_names_that_libraries_have_changed_are_the_same():
    assert places_of(["sepal_length__cm_", "x"], ["x", "sepal length (cm)", "more"]) == [1, 0]
    assert places_of(["a b", "a_b"], ["a_b", "a b"]) == [1, 0]
    assert places_of(["a b"], ["a_b", "a-b", "a.b"]) is None  # which of the two is meant?
    assert places_of(["y"], ["x"]) is None


@pytest.mark.parametrize("names", [("X",), ("sepal_length__cm_", "b", "c", "d")])
def test_columns_reach_an_onnx_file_by_their_names_or_as_its_one_matrix(tmp_path, names):
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(rows, labels)
    rows = rows.astype(np.float32)
    size = 4 // len(names)
    read = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", size]) for n in names]
    given = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])]
    weights = [
        onnx.numpy_helper.from_array(model.coef_.T.astype(np.float32), "w"),
        onnx.numpy_helper.from_array(model.intercept_.astype(np.float32), "v"),
    ]
    joined = [helper.make_node("Concat", list(names), ["all"], axis=1)]
    nodes = [
        *joined,
        helper.make_node("Gemm", ["all", "w", "v"], ["l"]),
        helper.make_node("Softmax", ["l"], ["probabilities"]),
    ]
    graph = helper.make_graph(nodes, "g", read, given, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / "m.onnx")
    columns = dict(zip(("sepal_length_cm", "b", "c", "d"), rows.T, strict=True))
    more = {"age": np.zeros(len(rows), np.float32)} if len(names) > 1 else {}  # what the file does not know
    asked = spec("m.onnx", [*more, *columns], (), output="probabilities")
    found = ran(asked, tmp_path, **more, **columns)
    np.testing.assert_allclose(found, model.predict_proba(rows), atol=1e-5)


def test_a_matrix_of_another_width_is_told(tmp_path):
    read = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 4])]
    given = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])]
    graph = helper.make_graph([helper.make_node("Identity", ["X"], ["y"])], "g", read, given)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(MemberLoadError, match="the member's inputs have 3 columns a row, and the file reads 4"):
        ran(spec("m.onnx", ["a", "b", "c"], ()), tmp_path)
