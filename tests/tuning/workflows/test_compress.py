import json

import numpy as np
import pytest
import sklearn.metrics
import torch
from safetensors.torch import load_file, save_file

from quorate.deployments import load_spec, parse_spec
from quorate.fusion.errors import MergeError
from quorate.tuning import Distillation, Training, compress, run_in_process, train
from quorate.tuning.runs.probe import load_probe
from quorate.tuning.training.compression_candidates import with_soups, with_student

pytestmark = pytest.mark.long

torchao = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
STUDENT = {"family": "mlp", "width": 16, "depth": 1}


@pytest.fixture(scope="module")
def twins(tiny, tmp_path_factory):
    """The tiny ensemble and a twin of its strongest member that was moved a little: two networks of one start."""
    folder = tmp_path_factory.mktemp("twins")
    (folder / "artifacts").symlink_to(tiny.folder / "artifacts")
    state = load_file(tiny.folder / "artifacts/strong.safetensors")
    noise = torch.Generator().manual_seed(0)
    moved = {k: v + 0.02 * v.std() * torch.randn(v.shape, generator=noise) for k, v in state.items()}
    save_file(moved, folder / "twin.safetensors")
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    data["members"]["twin"] = {**data["members"]["strong"], "weights": "twin.safetensors", "digest": None}
    data["fusion"]["members"].append("twin")
    return parse_spec(data), folder


@pytest.fixture(scope="module")
def compressed(tiny, twins, tmp_path_factory):
    spec, folder = twins
    splits = tiny.splits
    how = Distillation(training=Training(epochs=6))
    return compress(
        spec,
        folder,
        splits.train,
        splits.validation,
        splits.test,
        student=STUDENT,
        how=how,
        runs=tmp_path_factory.mktemp("runs"),
        tolerance=0.02,
    )


@torchao
def test_every_candidate_is_deployable_and_scores_what_the_report_says(tiny, compressed):
    test = tiny.splits.test
    assert set(compressed.candidates) | set(compressed.skipped) == {"ensemble", "bf16", "int8", "soup", "student"}
    for name, candidate in compressed.candidates.items():
        spec = load_spec(candidate.folder / "spec.yaml")
        assert spec == candidate.spec
        weights = spec.output_fusion.weights
        assert weights is not None
        outputs = [run_in_process(spec.job(member), candidate.folder, test.inputs) for member in weights]
        fused = np.average(outputs, axis=0, weights=list(weights.values()))
        # torchao rounds activations by the batch's rows alone, so a batch of another size says the same
        assert candidate.log_loss == pytest.approx(sklearn.metrics.log_loss(test.labels, fused), abs=1e-4), name
        assert candidate.accuracy == pytest.approx(sklearn.metrics.accuracy_score(test.labels, fused.argmax(1)))
        lost = candidate.log_loss - compressed.candidates["ensemble"].log_loss
        assert candidate.log_loss_lost.difference == pytest.approx(lost, abs=1e-9)
        assert candidate.log_loss_lost.low <= lost <= candidate.log_loss_lost.high
        probe = load_probe(candidate.folder, spec)
        np.testing.assert_allclose(probe.expected, fused[: len(probe.expected)], atol=probe.tolerance)
        assert set(candidate.latency_ms) == {1, 64}
        assert all(0 < candidate.latency_ms[n] <= candidate.compute_ms[n] for n in (1, 64))


@torchao
def test_fewer_bits_and_fewer_members_take_fewer_bytes(compressed):
    sizes = {name: candidate.bytes for name, candidate in compressed.candidates.items()}
    assert sizes["bf16"] == sizes["ensemble"] / 2
    assert sizes["soup"] < sizes["ensemble"]
    assert sizes["student"] == 4 * (64 * 16 + 16 + 16 * 10 + 10)
    if "int8" in sizes:
        assert sizes["int8"] < sizes["bf16"]


@torchao
def test_the_pick_is_the_smallest_that_loses_no_more_than_the_tolerance(compressed):
    good = [name for name, one in compressed.candidates.items() if one.log_loss_lost.high <= compressed.tolerance]
    assert "ensemble" in good
    assert compressed.pick == min(good, key=lambda name: compressed.candidates[name].bytes)
    assert compressed.pick != "ensemble"
    report = json.loads((compressed.folder / "report.json").read_text())
    assert report["pick"] == compressed.pick
    assert report["candidates"]["bf16"]["bytes"] == compressed.candidates["bf16"].bytes


@torchao
def test_the_table_shows_every_candidate_and_the_way_to_deploy_the_pick(compressed):
    shown = repr(compressed)
    assert all(name in shown for name in compressed.candidates)
    assert f"candidates/{compressed.pick}/spec.yaml" in shown


def test_a_soup_of_networks_trained_apart_is_refused(tiny, tmp_path):
    splits = tiny.splits
    with pytest.raises(MergeError, match="no two share a configuration"):
        with_soups(tiny.spec, tiny.folder, splits.train, splits.validation, tmp_path)


@torchao
def test_a_student_reads_one_input_and_the_others_are_no_part_of_its_spec(tiny, tmp_path):
    fields = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    fields["inputs"]["sound"] = {"datatype": "FP32", "shape": [1, 8, 8]}
    fields["members"]["weak"]["inputs"] = ["sound"]
    fields["fusion"]["members"] = ["strong", "weak", "middle"]
    config = {"family": "mlp", "width": 4, "depth": 1, "image": [1, 8, 8]}
    trained = train(config, tiny.splits.train, tiny.splits.validation, Training(epochs=1))
    student = with_student(parse_spec(fields), config, trained, tmp_path)
    assert list(student.inputs) == ["image"]


def test_what_cannot_be_made_is_skipped_and_said(tiny, tmp_path):
    (tmp_path / "my_factory_f.py").write_text(
        "import numpy as np\ndef make():\n    return lambda image: np.full((len(image), 10), 0.1, np.float32)\n"
    )
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    data["members"] = {"flat": {"model": "my_factory_f:make", "inputs": ["image"], "output": "probabilities"}}
    data["fusion"] = {"rule": "mean"}
    splits = tiny.splits
    runs = tmp_path / "runs"
    found = compress(parse_spec(data), tmp_path, splits.train, splits.validation, splits.test, runs=runs)
    assert set(found.candidates) == {"ensemble"}
    assert found.pick == "ensemble"
    assert "trained here" in found.skipped["bf16"]
    assert "no two share" in found.skipped["soup"]
