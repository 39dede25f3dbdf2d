"""Members ``hf:FOLDER`` that read pictures: encoded, as pixels, or as tensors that are ready."""

from functools import partial

import numpy as np
import pytest
import torch

from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.spec.model_files.own_classes import with_own_classes
from quorate.deployments.transport.row_state import RowState
from tests.deployments.support.encoded_pictures import encoded, pixels
from tests.deployments.support.huggingface_folders import import_transformers, vit

PIXELS = pixels(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vit")


@pytest.fixture(scope="module")
def model(folder):
    return vit(folder / "tinyvit")


def member(folder, datatype, shape, **config):
    data = {
        "name": "look",
        "inputs": {"photo": {"datatype": datatype, "shape": shape}},
        "members": {"vit": {"model": "hf:tinyvit", "inputs": ["photo"], "config": config}},
        "fusion": {"rule": "mean"},
    }
    job = parse_spec(with_own_classes(data, folder)).job("vit")
    found = Predictor(load_model(job.name, job.member, folder), job)
    found.warm_up()
    return found


def processor(folder, **options):
    return import_transformers().AutoImageProcessor.from_pretrained(folder / "tinyvit", **options)


def prepared(folder, **options):
    return processor(folder, **options)(images=list(PIXELS), return_tensors="pt")["pixel_values"].numpy()


@pytest.fixture(scope="module")
def ready(folder, model):
    """(B, C, H, W) as the processor of the folder makes it."""
    return prepared(folder)


@pytest.fixture(scope="module")
def expected(model, ready):
    with torch.inference_mode():
        return model(torch.from_numpy(ready)).logits.numpy()


@pytest.mark.parametrize(
    ("datatype", "shape"), [("BYTES", []), ("BYTES", [1]), ("UINT8", [-1, -1, 3]), ("FP32", [3, 32, 32])]
)
def test_logits_are_those_of_transformers_however_a_picture_comes(folder, model, ready, expected, datatype, shape):
    rows = {"BYTES": encoded(PIXELS), "UINT8": PIXELS, "FP32": ready}[datatype]
    rows = rows.reshape(4, *shape) if datatype == "BYTES" else rows
    found, status = member(folder, datatype, shape).run({"photo": rows}, probabilities=False)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (status == RowState.OK).all()


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
def test_a_spec_says_what_makes_pictures_ready(folder, model, backend):
    if type(processor(folder, backend=backend)).__name__.endswith("Pil") != (backend == "pil"):
        pytest.skip("transformers was imported without torchvision here, by a member before")
    found, _ = member(folder, "BYTES", [], image_backend=backend).run({"photo": encoded(PIXELS)}, probabilities=False)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(prepared(folder, backend=backend))).logits.numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_what_cannot_make_pictures_ready_here_is_refused_instead_of_another(folder, model, monkeypatch):
    processors = import_transformers().AutoImageProcessor
    fallback = partial(processors.from_pretrained, local_files_only=True, backend="pil")  # as where torchvision is not
    monkeypatch.setattr(processors, "from_pretrained", lambda path, **_: fallback(path))
    with pytest.raises(MemberLoadError, match="image_backend is torchvision, and transformers gives a ViTImagePro"):
        member(folder, "BYTES", [], image_backend="torchvision")


def test_pictures_of_any_size_run_together_and_what_is_none_fails_alone(folder, model):
    found = member(folder, "BYTES", [])
    rows = np.concatenate([encoded(pixels(1, 24, 80), "JPEG"), encoded(PIXELS[:1]), encoded(PIXELS[1:2])])
    rows[1] = rows[1][:60]
    values, status = found.run({"photo": rows}, probabilities=False)
    assert list(status) == [RowState.OK, RowState.ERROR, RowState.OK]
    alone = [found.run({"photo": rows[at : at + 1]}, probabilities=False)[0][0] for at in (0, 2)]
    np.testing.assert_allclose(values[[0, 2]], alone, atol=1e-6)
    assert found.last_error.startswith("a picture cannot be decoded: ")
