"""Members ``hf:FOLDER`` that read texts: their answers are transformers' own."""

import numpy as np
import pytest
import torch

from quorate.deployments import load_model, load_spec
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.datatypes import bytes_array
from tests.deployments.support.huggingface_folders import TEXTS, bert, import_transformers, trained_tokenizer

SPEC = """
name: mood
inputs: {text: {datatype: BYTES, shape: []}}
members:
  bert: {model: "hf:tinybert", inputs: [text]}
fusion: {rule: mean}
"""


def rows(texts):
    return bytes_array([text.encode() for text in texts])


def expected(model, texts, **options):
    """Logits of each text alone: what others are batched with plays no part in it."""
    tokenizer = trained_tokenizer()
    with torch.inference_mode():
        encoded = (tokenizer(text, return_tensors="pt", truncation=True, **options) for text in texts)
        return np.concatenate([model(**tokens).logits.numpy() for tokens in encoded])


def predictor(spec, folder, member="bert"):
    job = spec.job(member)
    return Predictor(load_model(job.name, job.member, folder), job)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    (folder / "spec.yaml").write_text(SPEC)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return bert(folder / "tinybert")


@pytest.fixture(scope="module")
def spec(folder, model):
    return load_spec(folder / "spec.yaml")


@pytest.fixture(scope="module")
def member(spec, folder):
    found = predictor(spec, folder)
    found.warm_up()
    return found


def test_classes_are_the_models_own_where_the_spec_names_none(spec):
    assert spec.classes == ("neg", "pos")
    assert spec.members["bert"].classes is None  # the ensemble's, in the same order


def test_logits_are_those_of_transformers(member, model):
    found, status = member.run({"text": rows(TEXTS)}, probabilities=False)
    np.testing.assert_allclose(found, expected(model, TEXTS), atol=1e-6)
    assert (status == RowState.OK).all()


def test_probabilities_are_those_of_its_pipeline(member, folder):
    found, _ = member.run({"text": rows(TEXTS)}, probabilities=True)
    said = import_transformers().pipeline("text-classification", str(folder / "tinybert"), top_k=None, device="cpu")(
        TEXTS
    )
    scores = [{entry["label"]: entry["score"] for entry in row} for row in said]
    np.testing.assert_allclose(found, [[row["neg"], row["pos"]] for row in scores], atol=1e-6)


def test_a_long_text_is_cut_where_the_tokenizer_says(member, model):
    long = ["good " * 200]
    found, _ = member.run({"text": rows(long)}, probabilities=False)
    np.testing.assert_allclose(found, expected(model, long, max_length=24), atol=1e-6)


def test_a_text_that_is_no_utf8_fails_alone(member, model):
    texts = rows(TEXTS)
    texts[[1, 4]] = b"\xff\xfe", b"caf\xe9"
    found, status = member.run({"text": texts}, probabilities=False)
    good = [0, 2, 3, 5]
    assert [at for at in range(6) if status[at] == RowState.OK] == good
    assert set(status[[1, 4]]) == {RowState.ERROR}
    np.testing.assert_allclose(found[good], expected(model, [TEXTS[at] for at in good]), atol=1e-6)
    assert member.last_error == "a text is no UTF-8: byte 0 of 2 is wrong"
