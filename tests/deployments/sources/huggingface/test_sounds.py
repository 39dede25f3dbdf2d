"""Members ``hf:FOLDER`` that read sound."""

import base64
import io

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from quorate.deployments import load_model, parse_spec
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.spec.model_files.own_classes import with_own_classes
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.datatypes import bytes_array
from tests.deployments.support.huggingface_folders import import_transformers, wav2vec2


@pytest.fixture
def ear(tmp_path):
    model = wav2vec2(tmp_path / "tinywav")
    model.extractor = import_transformers().AutoFeatureExtractor.from_pretrained(tmp_path / "tinywav")
    model.folder = tmp_path
    return model


def member(ear, **sound):
    data = {
        "name": "hear",
        "inputs": {"sound": sound},
        "members": {"ear": {"model": "hf:tinywav", "inputs": ["sound"]}},
        "fusion": {"rule": "mean"},
    }
    job = parse_spec(with_own_classes(data, ear.folder)).job("ear")
    assert job.classes == ("yes", "no")
    found = Predictor(load_model(job.name, job.member, ear.folder), job)
    found.warm_up()  # with a second of silence: one sample is shorter than the first kernel
    return found


def said(ear, *sounds):
    """transformers' logits of each by itself."""
    with torch.inference_mode():
        each = [ear(**ear.extractor(one, sampling_rate=8000, return_tensors="pt")).logits.numpy() for one in sounds]
    return np.concatenate(each)


def noise(samples):
    return np.random.default_rng(samples).normal(scale=0.2, size=samples).astype(np.float32)


def test_logits_are_those_of_transformers_for_sound_of_any_length(ear):
    asked = member(ear, datatype="FP32", shape=[-1])
    for samples in (900, 2500):
        sound = np.stack([noise(samples), noise(samples + 1)[1:], noise(samples)[::-1]])
        found, _ = asked.run({"sound": sound}, probabilities=False)
        np.testing.assert_allclose(found, said(ear, *sound), atol=1e-6)


def test_files_of_other_lengths_are_rows_of_one_batch_and_what_is_none_fails_alone(ear):
    sounds = [noise(900), noise(2500), noise(2500)[::-1], noise(1300)]
    rows = [wav(sound) for sound in sounds]
    rows[1] = base64.b64encode(rows[1])  # as JSON has it
    wrong = [b"RIFF", wav(noise(900), rate=16_000), wav(np.stack([noise(900)] * 2, axis=1))]
    asked = member(ear, datatype="BYTES", shape=[])
    found, status = asked.run({"sound": bytes_array([*rows, *wrong])}, probabilities=False)
    assert list(status) == [RowState.OK] * 4 + [RowState.ERROR] * 3
    np.testing.assert_allclose(found[:4], said(ear, *sounds), atol=1e-6)
    sentences = ("no .wav file", "16000 samples a second, and the model reads 8000", "2 channels")
    for row, sentence in zip(wrong, sentences, strict=True):
        asked.run({"sound": bytes_array([row])}, probabilities=False)
        assert sentence in asked.last_error


def wav(samples, rate=8000):
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, samples)
    return buffer.getvalue()
