"""A graph run over many rows in one process answers as its parts do one after the other."""

import numpy as np
import pytest
import torch
from torch import nn

from quorate.deployments import parse_spec
from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.transport.row_state import RowState
from quorate.tuning import save_weights

SIZES = {"eye": (16, 8), "ear": (4, 5), "head": (13, 3), "second": (3, 3)}


@pytest.fixture
def networks(tmp_path):
    torch.manual_seed(0)
    found = {name: nn.Linear(*size) for name, size in SIZES.items()}
    for name, network in found.items():
        save_weights(network, tmp_path / f"{name}.safetensors")
    return found


def senses(**both):
    def member(name, inputs, **more):
        size = dict(zip(("in_features", "out_features"), SIZES[name], strict=True))
        return {"model": "torch.nn:Linear", "config": size, "weights": f"{name}.safetensors", "inputs": inputs, **more}

    fused = {"rule": "concat", "members": ["eye", "ear"], "options": {"widths": {"eye": 8, "ear": 5}}, **both}
    return parse_spec(
        {
            "name": "senses",
            "inputs": {"image": {"datatype": "FP32", "shape": [16]}, "sound": {"datatype": "FP32", "shape": [4]}},
            "classes": ["cat", "dog", "bird"],
            "members": {
                "eye": member("eye", ["image"], output="features", max_batch_size=3),
                "ear": member("ear", ["sound"], output="features"),
                "head": member("head", ["both"]),
                "second": member("second", ["head"]),
            },
            "fusions": {"both": fused, "answer": {"rule": "mean", "members": ["head", "second"]}},
        }
    )


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    return {name: random.normal(size=(7, size)).astype(np.float32) for name, size in (("image", 16), ("sound", 4))}


def by_hand(networks, rows):
    with torch.inference_mode():
        both = torch.cat([networks["eye"](rows["image"]), networks["ear"](rows["sound"])], dim=1)
        head = networks["head"](both)
        return (head.softmax(dim=1) + networks["second"](head).softmax(dim=1)) / 2


def tensors(rows):
    return {name: torch.from_numpy(array) for name, array in rows.items()}


def test_the_answer_is_what_the_networks_give_one_after_the_other(networks, rows, tmp_path):
    answer = OfflineGraph(senses(), tmp_path, rows).node("answer")
    assert answer.present.all()
    np.testing.assert_allclose(answer.aligned, by_hand(networks, tensors(rows)).numpy(), atol=1e-6)


def test_a_member_that_reads_a_member_is_given_what_it_returns_and_a_fusion_its_probabilities(networks, rows, tmp_path):
    head = OfflineGraph(senses(), tmp_path, rows).node("head")
    np.testing.assert_allclose(torch.from_numpy(head.raw).softmax(dim=1).numpy(), head.aligned, atol=1e-6)
    assert not np.allclose(head.raw, head.aligned)


def test_a_row_without_one_sense_is_answered_by_the_other(networks, rows, tmp_path):
    rows["sound"][2] = np.nan
    graph = OfflineGraph(senses(), tmp_path, rows)
    assert graph.node("ear").states[2] == RowState.NONFINITE
    assert graph.node("answer").present.all()
    with torch.inference_mode():
        eye = networks["eye"](torch.from_numpy(rows["image"][2:3]))
        head = networks["head"](torch.cat([eye, torch.zeros(1, 5)], dim=1)).softmax(dim=1)
    np.testing.assert_allclose(graph.node("head").aligned[2:3], head.numpy(), atol=1e-6)


def test_a_row_below_the_quorum_is_missing_from_all_that_reads_it_and_the_others_are_not(networks, rows, tmp_path):
    rows["sound"][2] = np.nan
    graph = OfflineGraph(senses(quorum=2), tmp_path, rows)
    for name in ("both", "head", "second", "answer"):
        assert graph.node(name).present.tolist() == [row != 2 for row in range(7)]
        assert not graph.node(name).aligned[2].any()


def test_rows_that_all_fail_are_missing_and_no_error(networks, rows, tmp_path):
    rows["image"][:], rows["sound"][:] = np.nan, np.nan
    assert not OfflineGraph(senses(), tmp_path, rows).node("answer").present.any()
