"""Pictures, sound and words as they come, asked for over HTTP: the members make them ready themselves."""

import base64
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from scipy.special import softmax

from quorate.deployments import Client, load_model, load_spec
from tests.deployments.support.encoded_pictures import encoded, pixels
from tests.deployments.support.huggingface_folders import bert, vit, wav2vec2
from tests.deployments.support.torchvision_operators import import_torchvision


@pytest.fixture
def served(open_doors, tmp_path):
    """Give an ensemble of members in this folder; the spec, and where it is asked."""

    def run(name, members, **top):
        data = {"name": name, "members": members, "fusion": {"rule": "mean", "deadline_s": 5}, **top}
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(data))
        spec = load_spec(tmp_path / "spec.yaml")
        return spec, open_doors(spec.model_dump(mode="json", exclude_defaults=True)).http

    return run


def probabilities(spec, member, **rows):
    """What the member says without doors."""
    return softmax(load_model(member, spec.members[member], Path()).predict(rows), axis=-1)


def asked(url, name, item, datatype, data, shape):
    inputs = [{"name": item, "datatype": datatype, "shape": shape, "data": data}]
    answer = httpx.post(f"{url}/v2/models/{name}/infer", json={"inputs": inputs}, timeout=30).json()
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer["outputs"]}


def test_one_picture_is_read_by_three_libraries_as_bytes_or_in_json_as_base64(served, tmp_path):
    models = import_torchvision().models
    import timm

    vit(tmp_path / "eye")
    torch.manual_seed(0)
    networks = {"timm:test_vit": timm.create_model("test_vit", num_classes=3)}
    networks["torchvision:shufflenet_v2_x0_5"] = models.shufflenet_v2_x0_5(num_classes=3)
    members: dict[str, dict] = {"eye": {"model": f"hf:{tmp_path / 'eye'}", "inputs": ["photo"]}}
    for number, (model, network) in enumerate(networks.items()):
        save_file(network.state_dict(), tmp_path / f"{number}.safetensors")
        weights = {"config": {"num_classes": 3}, "weights": str(tmp_path / f"{number}.safetensors")}
        members[f"net{number}"] = {"model": model, "inputs": ["photo"], **weights}
    spec, url = served("looking", members, inputs={"photo": {"datatype": "BYTES", "shape": []}})
    assert spec.classes == ("cat", "dog", "owl")
    rows = encoded(pixels(3), "JPEG")
    expected = np.mean([probabilities(spec, name, photo=rows) for name in members], axis=0)
    with Client(url) as client:
        np.testing.assert_allclose(client.infer("looking", photo=rows).outputs["fused"], expected, atol=1e-6)
    texts = [base64.b64encode(content).decode() for content in rows]
    np.testing.assert_allclose(asked(url, "looking", "photo", "BYTES", texts, [3])["fused"], expected, atol=1e-6)


def test_sounds_of_any_length_are_answered(served, tmp_path):
    wav2vec2(tmp_path / "ear")
    members = {"ear": {"model": f"hf:{tmp_path / 'ear'}", "inputs": ["sound"]}}
    spec, url = served("hearing", members, inputs={"sound": {"datatype": "FP32", "shape": [-1]}})
    with Client(url) as client:
        for samples in (700, 1800):
            sound = np.random.default_rng(samples).normal(size=(2, samples)).astype(np.float32)
            found = client.infer("hearing", sound=sound).outputs["fused"]
            np.testing.assert_allclose(found, probabilities(spec, "ear", sound=sound), atol=1e-6)


def test_words_are_answered_by_their_tags(served, tmp_path):
    bert(tmp_path / "tagger", "TokenClassification", ("O", "B-PER", "I-PER"))
    members = {"tagger": {"model": f"hf:{tmp_path / 'tagger'}", "inputs": ["words"]}}
    inputs = {"words": {"datatype": "BYTES", "shape": [-1]}}
    spec, url = served("naming", members, inputs=inputs, task="tagging")
    words = ["the", "cast", "is", "Schön"]
    found = asked(url, "naming", "words", "BYTES", words, [1, 4])
    rows = np.array([[word.encode() for word in words]], dtype=object)
    np.testing.assert_allclose(found["fused"], probabilities(spec, "tagger", words=rows), atol=1e-6)
    assert found["tags"].shape == (1, 4)
    assert set(found["tags"].ravel()) <= {"O", "B-PER", "I-PER"}
