"""Members ``hf:FOLDER`` that tag words: the first token of each speaks, as it was trained to."""

import numpy as np
import pytest
import torch
import yaml

from quorate.deployments import load_model, load_spec
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.datatypes import bytes_array
from tests.deployments.support.huggingface_folders import bert, trained_tokenizer

LABELS = ("O", "B-PER", "I-PER")
SENTENCES = [
    ["the", "cast", "is", "good"], ["Schön", "war's", "unheard-of", "evening"], ["dull", "", "", ""],
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    model = bert(folder / "tagger", "TokenClassification", LABELS)
    model.folder = folder
    return model


def member(model, lengths=None):
    inputs = {"words": {"datatype": "BYTES", "shape": [-1]}}
    if lengths:
        inputs[lengths] = {"datatype": "INT32", "shape": [1]}
    data = {
        "name": "names", "task": "tagging", "inputs": inputs,
        "members": {"bert": {"model": "hf:tagger", "inputs": list(inputs)}}, "fusion": {"rule": "mean"},
    }  # fmt: skip
    (model.folder / "names.yaml").write_text(yaml.safe_dump({**data, **({"lengths": lengths} if lengths else {})}))
    spec = load_spec(model.folder / "names.yaml")
    assert spec.classes == LABELS
    job = spec.job("bert")
    found = Predictor(load_model(job.name, job.member, model.folder), job)
    found.warm_up()
    return found


def words(rows):
    return np.stack([bytes_array([word.encode() for word in row]) for row in rows])


def said(model, sentence):
    """(W, C): transformers' logits at the first token of each word."""
    encoded = trained_tokenizer()([sentence], is_split_into_words=True, return_tensors="pt")
    first = [encoded.word_to_tokens(0, at).start for at in range(len(sentence))]
    with torch.inference_mode():
        return model(**encoded).logits[0, first].numpy()


def test_each_word_has_the_logits_of_its_first_token(model):
    found, status = member(model).run({"words": words(SENTENCES)}, probabilities=False)
    assert found.shape == (3, 4, 3)
    assert (status == RowState.OK).all()
    np.testing.assert_allclose(found[:2], [said(model, row) for row in SENTENCES[:2]], atol=1e-6)
    np.testing.assert_allclose(found[2, :1], said(model, ["dull"]), atol=1e-6)
    np.testing.assert_array_equal(found[2, 1:], 0)  # empty words were not seen


def test_words_behind_the_length_of_a_row_are_not_seen(model):
    rows = {"words": words([SENTENCES[0], ["dull", "the", "the", "the"]]), "length": np.array([[4], [1]], np.int32)}
    found, _ = member(model, "length").run(rows, probabilities=False)
    np.testing.assert_allclose(found[0], said(model, SENTENCES[0]), atol=1e-6)
    np.testing.assert_allclose(found[1, :1], said(model, ["dull"]), atol=1e-6)
    np.testing.assert_array_equal(found[1, 1:], 0)


def test_a_row_of_more_tokens_than_the_model_reads_fails_and_is_not_cut_unseen(model):
    tagger = member(model)
    long = [["dull"] * 30, ["dull", "film"] + [""] * 28]
    found, status = tagger.run({"words": words(long)}, probabilities=False)
    assert list(status) == [RowState.ERROR, RowState.OK]
    np.testing.assert_allclose(found[1, :2], said(model, ["dull", "film"]), atol=1e-6)
    assert "and the model reads 24; send shorter rows" in tagger.last_error
