"""What only a GPU can show: members on the device, pinning by Ray, training. Run it with ``make test-gpu``."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from quorate.deployments import Client, load_model, parse_spec
from quorate.fusion import GeometricMean, Mean, Median, WeightedMean
from quorate.tuning import Training, digits, save_weights, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

IMAGE = {"image": {"datatype": "FP32", "shape": [1, 8, 8]}}
FAMILIES = {"cnn": 8, "rnn": 16, "transformer": 32, "mlp": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four small networks, trained on the GPU."""
    folder, splits = tmp_path_factory.mktemp("gpu"), digits()
    for family, width in FAMILIES.items():
        config = {"family": family, "width": width, "image": [1, 8, 8], "classes": 10}
        how = Training(epochs=3, seed=1, device="cuda")
        save_weights(train(config, splits.train, splits.validation, how).model, folder / f"{family}.safetensors")
    return folder


@pytest.fixture(scope="module")
def spec():
    members = {
        family: {
            "model": "quorate.tuning.architectures:build",
            "config": {"family": family, "width": width, "image": [1, 8, 8]},
            "weights": f"{family}.safetensors",
            "inputs": ["image"],
            "resources": {"num_gpus": 0.25, "num_cpus": 0.1},
        }
        for family, width in FAMILIES.items()
    }
    return parse_spec(
        {
            "name": "digits",
            "inputs": IMAGE,
            "classes": list("0123456789"),
            "members": members,
            "fusion": {"rule": "mean", "deadline_s": 5.0},
            "serving": {"resources": {"num_cpus": 0.1}},
        }
    )


@pytest.fixture(scope="module")
def images():
    return {"image": digits().test.inputs["image"][:128]}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_member_answers_on_the_gpu_as_on_the_cpu(folder, spec, images, family):
    on_gpu = load_model(family, spec.members[family], folder)
    assert on_gpu.device.type == "cuda"
    on_cpu = load_model(family, spec.members[family], folder, torch.device("cpu"))
    # cuDNN's convolutions and recurrent cells may use TF32, with 10 bits of mantissa.
    np.testing.assert_allclose(on_gpu.predict(images), on_cpu.predict(images), atol=2e-2)


def test_an_exported_program_runs_on_the_gpu(folder, spec, images):
    module = load_model("mlp", spec.members["mlp"], folder, torch.device("cpu")).module
    assert module is not None
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(module, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "mlp.pt2")
    member = spec.members["mlp"].model_copy(update={"model": "mlp.pt2", "config": {}, "weights": None})
    on_gpu = load_model("mlp", member, folder)
    assert on_gpu.device.type == "cuda"
    expected = load_model("mlp", spec.members["mlp"], folder, torch.device("cpu")).predict(images)
    np.testing.assert_allclose(on_gpu.predict(images), expected, atol=2e-2)


@pytest.mark.parametrize("rule", [Mean(3), WeightedMean([0.5, 0.3, 0.2]), GeometricMean(3, [0.2, 0.5, 0.3]), Median(3)])
def test_rules_fuse_tensors_of_the_gpu_as_those_of_the_cpu(rule):
    outputs = torch.rand(3, 64, 10, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    outputs[1, :5] = float("nan")
    fused = rule.fuse(outputs.cuda())
    assert fused.values.device.type == "cuda"
    np.testing.assert_allclose(fused.values.cpu(), rule.fuse(outputs).values, atol=1e-6)


def test_training_on_the_gpu_learns_what_training_on_the_cpu_learns():
    config, splits = {"family": "mlp", "width": 32, "image": [1, 8, 8], "classes": 10}, digits()
    gpu, cpu = (
        train(config, splits.train, splits.validation, Training(epochs=5, seed=3, device=device)).best
        for device in ("cuda", "cpu")
    )
    assert gpu.validation_log_loss == pytest.approx(cpu.validation_log_loss, rel=0.2)


def holds_the_device(pid):
    links = [os.readlink(link.path) for link in os.scandir(f"/proc/{pid}/fd") if os.path.islink(link.path)]
    return any(link.startswith("/dev/nvidia") for link in links)


@pytest.mark.ray
def test_members_share_one_gpu_and_the_fusion_sees_none(cluster_of_one_gpu, folder, spec, images):
    from quorate.deployments import deploy
    from quorate.deployments.control.describe import describe_fusion, describe_member

    deployed = deploy(spec, folder)
    replicas = [replica for name in spec.members for replica in describe_member(spec.name, name)]
    assert [replica["device"] for replica in replicas] == ["cuda"] * 4
    assert {tuple(map(str, replica["gpu_ids"])) for replica in replicas} == {("0",)}
    assert len({replica["pid"] for replica in replicas}) == 4
    (fusion,) = describe_fusion(spec.name)
    assert all(holds_the_device(replica["pid"]) for replica in replicas)
    assert not holds_the_device(fusion["pid"])
    with Client(deployed.http) as client:
        answer = client.infer(spec.name, images)
    assert answer.parameters["members_used"] == ",".join(sorted(spec.members))
    logits = [load_model(n, m, folder, torch.device("cpu")).predict(images) for n, m in spec.members.items()]
    expected = np.mean([torch.from_numpy(x).double().softmax(dim=-1).numpy() for x in logits], axis=0)
    np.testing.assert_allclose(answer.outputs["fused"], expected, atol=1e-2)


@pytest.fixture(scope="module")
def cluster_of_one_gpu():
    """Ray finds the device itself: unlike elsewhere in the tests no logical GPU is invented."""
    import ray
    from ray import serve

    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, configure_logging=False)
    assert ray.cluster_resources()["GPU"] == 1
    serve.start(proxy_location="Disabled")
    yield ray
    serve.shutdown()
    ray.shutdown()


def stacked_predictors(stack, count=3):
    from quorate.deployments.members.predictor import Predictor

    fields = {} if stack is None else {"stack": stack}
    spec = parse_spec(
        {
            "name": "stacked",
            "inputs": IMAGE,
            "classes": list("0123456789"),
            "members": {
                f"m{seed}": {
                    "model": "quorate.tuning.architectures:build",
                    "config": {"family": "mlp", "width": 32, "image": [1, 8, 8]},
                    "inputs": ["image"],
                    "max_batch_size": 8,
                    **fields,
                }
                for seed in range(count)
            },
            "fusion": {"rule": "mean"},
        }
    )
    found = []
    for seed, name in enumerate(spec.members):
        torch.manual_seed(seed)
        found.append(Predictor(load_model(name, spec.members[name], Path()), spec.job(name)))
    return found


@pytest.mark.parametrize("stack", [None, True])
def test_members_that_are_recorded_answer_what_each_answers_alone(images, stack):
    from quorate.deployments.members.packing.alike import stack_members

    members = stacked_predictors(stack)
    (stacked,), why = stack_members(members)
    assert not why
    assert stacked.how.startswith("recorded for 1, 2, 4, 8 rows")
    for rows in (1, 2, 3, 8, 3, 1):
        inputs = {"image": images["image"][:rows]}
        found, alone = stacked.run(inputs), [one.model.predict(inputs) for one in members]
        if stack is None:
            np.testing.assert_array_equal(found, alone)
        else:
            np.testing.assert_allclose(found, alone, atol=1e-3)


def test_a_process_that_shares_the_gpu_is_refused_more_than_its_part():
    code = (
        "import torch\n"
        "from quorate.deployments.members.gpu_memory import allowed_bytes, cap_memory\n"
        "cap_memory(0.2)\n"
        "total = torch.cuda.get_device_properties(0).total_memory\n"
        "torch.empty(int(0.8 * allowed_bytes(0.2, total)), dtype=torch.uint8, device='cuda')\n"
        "try:\n"
        "    torch.empty(int(0.5 * allowed_bytes(0.2, total)), dtype=torch.uint8, device='cuda')\n"
        "except torch.OutOfMemoryError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "refused", done.stderr
