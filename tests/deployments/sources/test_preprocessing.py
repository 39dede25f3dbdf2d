"""Steps before a model: their numbers are those of torchvision, scikit-learn and transformers."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.datatypes import bytes_array
from tests.deployments.support.encoded_pictures import encoded, pixels
from tests.deployments.support.huggingface_folders import TEXTS, trained_tokenizer
from tests.deployments.support.torchvision_operators import import_torchvision

FACTORIES = """
import numpy as np

def same():
    return lambda x: x

def beside():
    return lambda *arrays: np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1).astype(np.float64)

class Staged:
    def preprocess(self, text):
        return np.array([len(t) for t in text]), np.array([t.count(b" ") for t in text])

    def predict(self, lengths, spaces):
        return np.stack([lengths, spaces], axis=1).astype(np.float32)

    def postprocess(self, counts):
        return counts / 2
"""
WORDS = bytes_array([word.encode() for word in ("nurse", "clerk", "nurse", "smith")])


@pytest.fixture
def member(tmp_path, monkeypatch):
    name = f"steps_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(preprocess, factory="beside", warm=True, **inputs):
        one = {"model": f"{name}:{factory}", "inputs": list(inputs), "output": "values", "preprocess": preprocess}
        tensors = {n: {"datatype": d, "shape": list(s)} for n, (d, s) in inputs.items()}
        data = {"name": "steps", "inputs": tensors, "members": {"m": one}, "fusion": {"rule": "mean"}}
        job = parse_spec(data).job("m")
        found = Predictor(load_model("m", job.member, tmp_path), job)
        if warm:
            found.warm_up()
        return found

    return make


def values(member, **rows):
    found, status = member.run(rows, probabilities=False)
    return found, list(status)


def test_numbers_are_standardised_as_scikit_learn_does_and_missing_ones_stay_missing(member):
    rows = np.random.default_rng(0).normal(3, 2, (20, 3)).astype(np.float32)
    rows[4, 1] = np.nan
    scaler = StandardScaler().fit(rows)
    step = {"standardise": {"mean": scaler.mean_.tolist(), "std": scaler.scale_.tolist()}}
    found = member({"x": step}, "same", x=("FP32", [3])).model.predict({"x": rows})
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scaler.transform(rows), atol=1e-6)


def test_categories_are_columns_or_numbers_as_in_scikit_learn(member):
    known = ["smith", "nurse", "clerk"]
    table = [[word.decode()] for word in WORDS]
    steps = {"job": {"one_hot": known}, "again": {"categories": known}}
    found, _ = values(member(steps, job=("BYTES", []), again=("BYTES", [1])), job=WORDS, again=WORDS.reshape(-1, 1))
    columns = OneHotEncoder(categories=[known], sparse_output=False).fit_transform(table)
    numbers = OrdinalEncoder(categories=[known]).fit_transform(table)
    np.testing.assert_array_equal(found, np.hstack([columns, numbers]))


def test_whole_numbers_may_be_categories(member):
    found, _ = values(member({"k": {"one_hot": [30, 7, -1]}}, k=("INT64", [])), k=np.array([7, 30, -1]))
    np.testing.assert_array_equal(found, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_a_row_of_an_unknown_category_fails_alone(member):
    made = member({"job": {"one_hot": ["nurse", "clerk"]}}, job=("BYTES", []))
    found, status = values(made, job=WORDS)
    assert status == [RowState.OK, RowState.OK, RowState.OK, RowState.ERROR]
    np.testing.assert_array_equal(found[:3], [[1, 0], [0, 1], [1, 0]])
    assert made.last_error == "'smith' is no category of job"


@pytest.mark.parametrize("resize", [24, (30, 20)])
@pytest.mark.parametrize("crop", [None, 22, (18, 40)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_pictures_are_tensors_as_torchvision_makes_them(member, resize, crop, interpolation):
    import_torchvision()
    from PIL import Image
    from torchvision import transforms

    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    mode = transforms.InterpolationMode(interpolation)
    parts = [transforms.Resize(resize, mode), *([transforms.CenterCrop(crop)] if crop else [])]
    chain = transforms.Compose([*parts, transforms.ToTensor(), transforms.Normalize(mean, std)])
    images = pixels(3)
    expected = torch.stack([chain(Image.fromarray(image)) for image in images]).numpy()
    step = {"resize": resize, "crop": crop, "interpolation": interpolation, "mean": mean, "std": std}
    found = member({"p": {"image": step}}, "same", warm=False, p=("BYTES", [])).model.predict({"p": encoded(images)})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    last = member({"p": {"image": {**step, "layout": "HWC"}}}, "same", warm=False, p=("UINT8", [-1, -1, 3]))
    np.testing.assert_allclose(last.model.predict({"p": images}), expected.transpose(0, 2, 3, 1), atol=1e-6)


def test_grey_pictures_have_one_channel_and_those_that_are_none_fail_alone(member):
    step = {"image": {"resize": [4, 4], "mean": [0.5], "std": [0.5]}}
    made = member({"p": step}, p=("BYTES", []))
    rows = encoded(pixels(3))
    rows[1] = b"no picture"
    found, status = values(made, p=rows)
    assert found.shape == (3, 16)
    assert status == [RowState.OK, RowState.ERROR, RowState.OK]
    assert made.last_error.startswith("10 bytes are no picture of a format that is read: JPEG, PNG")


def test_a_text_becomes_what_its_tokenizer_makes_of_it(member, tmp_path):
    tokenizer = trained_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokens")
    made = member({"text": {"tokenizer": "tokens", "max_length": 9}}, text=("BYTES", []))
    found, _ = values(made, text=bytes_array([text.encode() for text in TEXTS]))
    cut = tokenizer(TEXTS, padding=True, truncation=True, max_length=9, return_tensors="np")
    names = ("input_ids", "attention_mask", "token_type_ids")
    np.testing.assert_array_equal(found, np.hstack([cut[name] for name in names if name in cut]))


def test_what_has_preprocess_predict_and_postprocess_is_called_in_that_order(member):
    texts = bytes_array([b"a b", b"ccccc"])
    found, _ = values(member({}, "Staged", text=("BYTES", [])), text=texts)
    np.testing.assert_array_equal(found, [[1.5, 0.5], [2.5, 0]])


@pytest.mark.parametrize(
    ("preprocess", "inputs", "said"),
    [
        ({"y": {"one_hot": ["a"]}}, {"x": ("BYTES", [])}, "m.preprocess.y: the member has no such input; "),
        ({"x": {}}, {"x": ("BYTES", [])}, "m.preprocess.x: .* it must have one of tokenizer, image, standardise"),
        ({"x": {"one_hot": ["a"], "image": {}}}, {"x": ("BYTES", [])}, "must have one of"),
        ({"x": {"one_hot": ["a", "a"]}}, {"x": ("BYTES", [])}, "m.preprocess.x.one_hot: a is listed twice"),
        ({"x": {"standardise": {"mean": 0, "std": 0}}}, {"x": ("FP32", [2])}, "std.*greater than 0"),
        (
            {"x": {"standardise": {"mean": 0, "std": 1}}},
            {"x": ("BYTES", [])},
            r"'x' is BYTES \[\], and standardise cann",
        ),
        ({"x": {"image": {}}}, {"x": ("FP32", [3, 8, 8])}, "let it be BYTES with shape: .*, or UINT8 with shape"),
        ({"x": {"tokenizer": "t"}}, {"x": ("BYTES", [4])}, r"'x' is BYTES \[4\], and tokenizer cannot read that"),
        ({"x": {"image": {"mean": [1, 2]}}}, {"x": ("BYTES", [])}, "one number each for grey pictures, or three"),
    ],
)
def test_a_step_that_does_not_fit_its_input_is_refused(member, preprocess, inputs, said):
    with pytest.raises(SpecError, match=said):
        member(preprocess, **inputs)


def test_a_tokenizer_that_is_not_there_is_said_where_it_is_loaded(member):
    with pytest.raises(MemberLoadError, match=r"a tokenizer cannot be loaded: .*save it with save_pretrained"):
        member({"x": {"tokenizer": "nowhere"}}, x=("BYTES", []))


def test_an_image_step_without_settings_gives_pixels_from_0_to_1(member):
    images = pixels(2)
    found = member({"p": {"image": None}}, "same", p=("UINT8", [40, 52, 3])).model.predict({"p": images})
    np.testing.assert_allclose(found, images.transpose(0, 3, 1, 2) / 255, atol=1e-7)


def test_what_a_tokenizer_makes_is_bound_by_name_to_exported_models(tmp_path):
    """One file that reads the mask first, and no token types, in either format."""
    from onnx import TensorProto, helper, save_model

    trained_tokenizer().save_pretrained(tmp_path / "tokens")
    ids, mask = (
        helper.make_tensor_value_info(n, TensorProto.INT64, ["rows", "tokens"]) for n in ("input_ids", "attention_mask")
    )
    masked = helper.make_node("Mul", ["input_ids", "attention_mask"], ["masked"])
    summed = helper.make_node("ReduceSum", ["masked"], ["sum"], keepdims=0, axes=[1])
    cast = helper.make_node("Cast", ["sum"], ["values"], to=TensorProto.FLOAT)
    out = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["rows"])
    graph = helper.make_graph([masked, summed, cast], "sums", [mask, ids], [out])
    opset = [helper.make_opsetid("", 11)]
    save_model(helper.make_model(graph, opset_imports=opset, ir_version=8), str(tmp_path / "sums.onnx"))

    class Sums(torch.nn.Module):
        def forward(self, attention_mask, input_ids):
            return (attention_mask * input_ids).sum(dim=1).float()

    free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    example = (torch.ones(3, 5, dtype=torch.int64), torch.ones(3, 5, dtype=torch.int64))
    torch.export.save(torch.export.export(Sums(), example, dynamic_shapes=(free, free)), str(tmp_path / "sums.pt2"))

    rows = {"text": bytes_array([text.encode() for text in TEXTS])}
    expected = [sum(ids) for ids in trained_tokenizer()(TEXTS)["input_ids"]]
    for model in ("sums.onnx", "sums.pt2"):
        member = {
            "model": model,
            "inputs": ["text"],
            "output": "values",
            "preprocess": {"text": {"tokenizer": "tokens"}},
        }
        spec = parse_spec(
            {"name": "sums", "inputs": {"text": "BYTES"}, "members": {"m": member}, "fusion": {"rule": "mean"}}
        )
        np.testing.assert_array_equal(load_model("m", spec.members["m"], tmp_path).predict(rows).ravel(), expected)
