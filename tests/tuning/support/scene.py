"""Digits seen by two eyes: one sees the upper half, the other the lower; their features meet in a head."""

from pathlib import Path

import torch
from torch import nn

from quorate.deployments import parse_spec
from quorate.tuning import Labelled, digits, save_weights

NETWORKS = """
from torch import nn

def eye(width=24):
    return nn.Sequential(nn.Flatten(), nn.Linear(32, width), nn.ReLU())

def head(width, classes=10):
    return nn.Linear(width, classes)

def normed(width, classes=10):
    return nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, classes))

def yes_or_no(width, classes):
    return nn.Sequential(nn.Linear(width, classes), nn.Sigmoid())

def plain():
    return lambda array: array.reshape(len(array), -1)
"""
WIDTH = 24


def write_networks(folder: Path) -> Path:
    """The factories, and weights of both eyes: random ones, but the same at each load."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eyes_of_a_scene.py").write_text(NETWORKS)
    with torch.random.fork_rng():
        for seed, name in enumerate(("above", "below")):
            torch.manual_seed(seed)
            eye = nn.Sequential(nn.Flatten(), nn.Linear(32, WIDTH), nn.ReLU())
            save_weights(eye, folder / f"{name}.safetensors")
    return folder


def scene_fields(rule="concat", **fusion):
    eye = {"model": "eyes_of_a_scene:eye", "config": {"width": WIDTH}, "output": "features"}
    width = 2 * WIDTH if rule == "concat" else WIDTH
    return {
        "name": "scene",
        "inputs": {half: {"datatype": "FP32", "shape": [32]} for half in ("upper", "lower")},
        "classes": [str(digit) for digit in range(10)],
        "members": {
            "above": {**eye, "weights": "above.safetensors", "inputs": ["upper"]},
            "below": {**eye, "weights": "below.safetensors", "inputs": ["lower"]},
            "reader": {"model": "eyes_of_a_scene:head", "config": {"width": width}, "inputs": ["both"]},
        },
        "fusions": {
            "both": {"rule": rule, "members": ["above", "below"], **fusion},
            "answer": {"rule": "mean", "members": ["reader"]},
        },
    }


def scene(rule="concat", **fusion):
    return parse_spec(scene_fields(rule, **fusion))


def blind_scene():
    """One whose eyes have not been trained, but that can answer."""
    fields = scene_fields(options={"widths": {"above": WIDTH, "below": WIDTH}})
    for name in ("above", "below"):
        del fields["members"][name]["weights"]
    return parse_spec(fields)


def two_heads(rule="mean", **answer):
    """Each half has a head, and both count."""
    fields = scene_fields()
    eyes = {name: {**fields["members"][name]} for name in ("above", "below")}
    head = {"model": "eyes_of_a_scene:head", "config": {"width": WIDTH}}
    heads = {f"{name}_head": {**head, "inputs": [name]} for name in eyes}
    del fields["fusions"]
    fields["members"] = {**eyes, **heads}
    fields["fusion"] = {"rule": rule, "members": list(heads), **answer}
    return parse_spec(fields)


def scene_rows():
    """(train, solve, judge), as the spec reads them."""
    splits = digits()
    return tuple(halved(part) for part in (splits.train, splits.validation, splits.test))


def halved(data):
    flat = data.inputs["image"].reshape(len(data), 64)
    return Labelled({"upper": flat[:, :32].copy(), "lower": flat[:, 32:].copy()}, data.labels, data.classes)
