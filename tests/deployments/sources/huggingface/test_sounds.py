"""Members ``hf:FOLDER`` that read sound."""

import numpy as np
import torch

from quorate.deployments import load_model, parse_spec
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.spec.model_files.own_classes import with_own_classes
from tests.deployments.support.huggingface_folders import import_transformers, wav2vec2


def test_logits_are_those_of_transformers_for_sound_of_any_length(tmp_path):
    model = wav2vec2(tmp_path / "tinywav")
    data = {
        "name": "hear",
        "inputs": {"sound": {"datatype": "FP32", "shape": [-1]}},
        "members": {"ear": {"model": "hf:tinywav", "inputs": ["sound"]}},
        "fusion": {"rule": "mean"},
    }
    job = parse_spec(with_own_classes(data, tmp_path)).job("ear")
    member = Predictor(load_model(job.name, job.member, tmp_path), job)
    member.warm_up()  # with a second of silence: one sample is shorter than the first kernel
    extractor = import_transformers().AutoFeatureExtractor.from_pretrained(tmp_path / "tinywav")
    for samples in (900, 2500):
        sound = np.random.default_rng(samples).normal(size=(3, samples)).astype(np.float32)
        with torch.inference_mode():
            said = model(**extractor(list(sound), sampling_rate=8000, return_tensors="pt")).logits.numpy()
        found, _ = member.run({"sound": sound}, probabilities=False)
        np.testing.assert_allclose(found, said, atol=1e-6)
    assert job.classes == ("yes", "no")
