"""Members ``timm:NAME`` and ``torchvision:NAME``: the library's own answer, from weights and its own transform."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from quorate.deployments import load_model, parse_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.transport.row_state import RowState
from tests.deployments.support.encoded_pictures import encoded, pixels
from tests.deployments.support.torchvision_operators import import_torchvision

PIXELS = pixels(3)


class Known:
    """A network with random weights, saved.

    Attributes:
        ready: (B, C, H, W) the pictures as the library's own transform makes them.
        logits: (B, K) the library's own answer.
    """

    def __init__(self, model, network, transform, folder, images):
        self.model = model
        save_file(network.state_dict(), folder / f"{model.replace(':', '-')}.safetensors")
        ready = torch.stack([transform(image) for image in images])
        with torch.inference_mode():
            self.logits = network.eval()(ready).numpy()
        self.ready = ready.numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


def of_timm(folder, name="test_vit", **config):
    import_torchvision()
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3, **config).eval()
    data = timm.data.resolve_data_config({"in_chans": config.get("in_chans", 3)}, network.pretrained_cfg)
    mode = "L" if config.get("in_chans") == 1 else "RGB"
    images = [Image.fromarray(image).convert(mode) for image in PIXELS]
    return Known(f"timm:{name}", network, timm.data.create_transform(**data), folder, images)


def of_torchvision(folder, name="shufflenet_v2_x0_5"):
    models = import_torchvision().models
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, num_classes=3).eval()
    transform = models.get_model_weights(name).DEFAULT.transforms()
    return Known(f"torchvision:{name}", network, transform, folder, [Image.fromarray(image) for image in PIXELS])


@pytest.fixture(scope="module", params=[of_timm, of_torchvision], ids=["timm", "torchvision"])
def known(request, folder):
    return request.param(folder)


def member(folder, model, datatype="BYTES", shape=(), **words):
    words = {"weights": f"{model.replace(':', '-')}.safetensors", "config": {"num_classes": 3}, **words}
    spec = parse_spec(
        {
            "name": "look",
            "inputs": {"photo": {"datatype": datatype, "shape": list(shape)}},
            "classes": ["cat", "dog", "owl"],
            "members": {"eye": {"model": model, "inputs": ["photo"], **words}},
            "fusion": {"rule": "mean"},
        }
    )
    job = spec.job("eye")
    found = Predictor(load_model(job.name, job.member, folder), job)
    found.warm_up()
    return found


@pytest.mark.parametrize(
    ("datatype", "shape"), [("BYTES", []), ("UINT8", [-1, -1, 3]), ("FP32", None)], ids=["encoded", "pixels", "ready"]
)
def test_logits_are_the_librarys_own_however_a_picture_comes(folder, known, datatype, shape):
    rows = {"BYTES": encoded(PIXELS), "UINT8": PIXELS, "FP32": known.ready}[datatype]
    shape = known.ready.shape[1:] if shape is None else shape
    found, status = member(folder, known.model, datatype, shape).run({"photo": rows}, probabilities=False)
    np.testing.assert_allclose(found, known.logits, atol=1e-6)
    assert (status == RowState.OK).all()


def test_a_picture_that_is_none_fails_alone(folder, known):
    rows = encoded(PIXELS)
    rows[1] = b"GIF89a and no more"
    found, status = member(folder, known.model).run({"photo": rows}, probabilities=False)
    assert list(status) == [RowState.OK, RowState.ERROR, RowState.OK]
    np.testing.assert_allclose(found[[0, 2]], known.logits[[0, 2]], atol=1e-6)


def test_a_network_of_one_channel_reads_grey(tmp_path):
    grey = {"in_chans": 1, "pretrained_cfg_overlay": {"mean": [0.4], "std": [0.2]}}
    known = of_timm(tmp_path, **grey)
    found = member(tmp_path, known.model, config={"num_classes": 3, **grey})
    np.testing.assert_allclose(found.run({"photo": encoded(PIXELS)}, probabilities=False)[0], known.logits, atol=1e-6)


def test_which_weights_pictures_are_made_ready_for_is_asked_for_by_name(folder):
    known = of_torchvision(folder)
    named = {"num_classes": 3, "recipe": "IMAGENET1K_V1"}
    found, _ = member(folder, known.model, config=named).run({"photo": encoded(PIXELS)}, probabilities=False)
    np.testing.assert_allclose(found, known.logits, atol=1e-6)
    with pytest.raises(MemberLoadError, match="config asks for recipe: V9; choose from IMAGENET1K_V1, DEFAULT"):
        member(folder, known.model, config={"num_classes": 3, "recipe": "V9"})


@pytest.mark.parametrize(
    ("model", "config", "said"),
    [
        ("timm:test_vitt", {}, "timm has no test_vitt; did you mean test_vit"),
        ("torchvision:resnet8", {}, "torchvision has no resnet8; did you mean "),
        ("timm:test_vit", {"wide": 3}, "test_vit failed with TypeError: .*wide"),
        ("timm:test_vit", {"pretrained": True}, "config asks for pretrained; remove it"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "config asks for weights; remove it"),
        ("timm:test_vit", {"num_classes": 4}, ".safetensors does not fit the model"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_sentence(folder, known, model, config, said):
    with pytest.raises(MemberLoadError, match=said):
        member(folder, model, config=config, weights=f"{known.model.replace(':', '-')}.safetensors")


def test_a_network_without_weights_is_refused_before_anything_starts():
    with pytest.raises(SpecError, match=r"members.eye.weights: timm:test_vit would answer at random; add weights"):
        member(None, "timm:test_vit", weights=None)


@pytest.mark.parametrize("model", ["timm:create_model", "torchvision.models:shufflenet_v2_x0_5"])
def test_the_librarys_functions_are_factories_still(tmp_path, model):
    known = of_torchvision(tmp_path) if "torchvision" in model else of_timm(tmp_path)
    config = {"num_classes": 3, **({"model_name": "test_vit"} if model.startswith("timm") else {})}
    weights = f"{known.model.replace(':', '-')}.safetensors"
    found = member(tmp_path, model, "FP32", known.ready.shape[1:], config=config, weights=weights)
    np.testing.assert_allclose(found.run({"photo": known.ready}, probabilities=False)[0], known.logits, atol=1e-6)
