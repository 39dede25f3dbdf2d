import subprocess
import sys

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.tuning import Labelled, PredictionStore, pick_runner, run_in_process, run_on_ray
from quorate.tuning.errors import DataError, PredictionError
from tests.deployments.support.member_threads import FACTORIES


@pytest.fixture(scope="module")
def on_ray(cluster, tiny, tmp_path_factory):
    """Predictions that actors computed, one of them on a GPU, and what filling the store said."""
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    data["members"]["weak"] |= {"max_batch_size": 7, "replicas": {"min": 1, "max": 2}}
    data["members"]["middle"] |= {"resources": {"num_gpus": 0.5}}
    spec, rows = parse_spec(data), tiny.splits.validation.rows(slice(0, 101))
    store = PredictionStore(tmp_path_factory.mktemp("ray"))
    return spec, rows, store, store.fill(spec, tiny.folder, rows, "validation", run=pick_runner())


@pytest.mark.long
def test_a_process_without_a_cluster_runs_members_itself():
    program = "from quorate.tuning import pick_runner, run_in_process; assert pick_runner() is run_in_process"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_actors_give_every_row_what_one_process_gives(on_ray, tiny):
    spec, rows, store, filled = on_ray
    assert pick_runner().__name__ == "run_on_ray"
    assert list(filled.computed) == ["weak", "middle", "strong"]
    for name, probs in zip(filled.computed, store.read("validation", list(filled.computed)), strict=True):
        np.testing.assert_allclose(probs, run_in_process(spec.job(name), tiny.folder, rows.inputs), atol=1e-6)


def test_what_ray_computed_is_kept_by_a_process_without_ray(on_ray, tiny):
    spec, rows, store, _ = on_ray
    again = PredictionStore(store.location).fill(spec, tiny.folder, rows, "validation", run=run_in_process)
    assert again.computed == {}


def test_a_member_that_fails_on_every_row_is_named(on_ray, tiny, tmp_path):
    spec, rows, _, _ = on_ray
    blank = Labelled({"image": np.full_like(rows.inputs["image"], np.nan)}, rows.labels, spec.classes)
    with pytest.raises(PredictionError, match=r"members\.weak: every row failed"):
        PredictionStore(tmp_path).fill(spec, tiny.folder, blank, "validation", run=pick_runner())
    narrow = Labelled({"image": rows.inputs["image"][:, :, :4]}, rows.labels, spec.classes)
    with pytest.raises(DataError, match=r"column 'image' has rows of shape \[1, 4, 8\], the model reads \[1, 8, 8\]"):
        PredictionStore(tmp_path).fill(spec, tiny.folder, narrow, "validation", run=pick_runner())


def test_actors_give_values_as_one_process_does(cluster, tmp_path):
    (tmp_path / "my_values.py").write_text(
        "import numpy as np\ndef make():\n    return lambda row: np.where(row > 90, np.nan, row * [1, 2, 3])\n"
    )
    member = {"model": "my_values:make", "inputs": ["row"], "output": "values", "replicas": {"min": 1, "max": 2}}
    inputs = {"row": {"datatype": "FP32", "shape": [1]}}
    spec = parse_spec({"name": "v", "inputs": inputs, "members": {"a": member}, "fusion": {"rule": "mean"}})
    rows = {"row": np.arange(100, dtype=np.float32)[:, None]}
    found = run_on_ray(spec.job("a"), tmp_path, rows)
    np.testing.assert_array_equal(found, run_in_process(spec.job("a"), tmp_path, rows))
    assert found.shape == (100, 3)


def test_actors_give_a_member_the_bytes_that_one_process_gives_it(cluster):
    """Rows as Python has them: float64, text, whole numbers. The member tells what it got."""
    rows = {
        "BOOL": np.array([[0], [1]] * 20), "INT8": np.arange(40)[:, None], "FP16": np.linspace(0, 1, 40),
        "FP32": np.arange(40.0),
        "BF16": np.linspace(-1, 1, 80).reshape(40, 2),
        "BYTES": np.array([f"row {i}" if i % 3 else "" for i in range(40)]),
    }  # fmt: skip
    inputs = {name: {"datatype": name, "shape": list(array.shape[1:])} for name, array in rows.items()}
    member = {"model": "seen:digests", "inputs": ["all"], "output": "values", "max_batch_size": 7}
    member["replicas"] = {"min": 1, "max": 2}
    spec = parse_spec({"name": "s", "inputs": inputs, "members": {"a": member}, "fusion": {"rule": "mean"}})
    found = run_on_ray(spec.job("a"), FACTORIES, rows)
    np.testing.assert_array_equal(found, run_in_process(spec.job("a"), FACTORIES, rows))
    assert len(np.unique(found, axis=0)) == 40
