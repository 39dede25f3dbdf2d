"""Formats of models, and where each keeps its weights."""

import pytest

from quorate.deployments.sources.loading import LOADERS, loader
from quorate.deployments.spec.model_formats import (
    FACTORY,
    FORMATS,
    HUGGING_FACE,
    ONNX,
    TIMM,
    TORCH_EXPORT,
    TORCHSCRIPT,
    TORCHVISION,
    checkpoint_of,
    factory_of,
    format_of,
)
from quorate.deployments.spec.schema import MemberSpec


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("nets/m.pt2", TORCH_EXPORT), ("m.onnx", ONNX), ("torch.nn:Linear", FACTORY), ("m.pth", TORCHSCRIPT),
        ("hf:m.onnx", HUGGING_FACE), ("timm:vit_tiny.augreg_in21k", TIMM), ("torchvision:resnet18", TORCHVISION),
        ("timm:create_model", FACTORY), ("torchvision.models:resnet18", FACTORY),
        ("torchvision:models.resnet18", FACTORY), ("timm", FACTORY),
    ],
)  # fmt: skip
def test_a_model_is_of_the_format_that_its_name_begins_or_ends_with(model, expected):
    assert format_of(model) is expected


def test_a_file_keeps_its_own_weights_and_a_factory_those_that_the_spec_names():
    assert checkpoint_of(MemberSpec(model="hf:nets/bert", inputs=("x",))) == "nets/bert"
    assert checkpoint_of(MemberSpec(model="m.onnx", inputs=("x",))) == "m.onnx"
    assert checkpoint_of(MemberSpec(model="a:b", weights="w.safetensors", inputs=("x",))) == "w.safetensors"
    assert checkpoint_of(MemberSpec(model="a:b", inputs=("x",))) is None


def test_a_factory_is_a_module_and_what_stands_in_it():
    assert factory_of("a.b:C.make") == ("a.b", "C.make")
    assert factory_of("a.b") == ("a.b", "")


def test_every_format_has_its_loader():
    assert {known.name for known in (*FORMATS, FACTORY)} == set(LOADERS)
    assert all(map(callable, map(loader, LOADERS)))
