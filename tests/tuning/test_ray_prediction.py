"""On a real local Ray, in a process of its own: importing Ray here would fix its flags for every later test."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from quorate.deployments import save_spec
from quorate.tuning import PredictionStore, run_in_process

SCRIPT = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    import numpy as np
    import ray
    ray.init(num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    from quorate.deployments import load_spec
    from quorate.fusion.errors import PredictionError
    from quorate.tuning import Labelled, PredictionStore, pick_runner
    folder = Path(sys.argv[1])
    spec = load_spec(folder / "spec.yaml")
    archive = np.load(folder / "rows.npz")
    data = Labelled({"image": archive["image"]}, archive["label"], spec.classes)
    report = PredictionStore(folder / "store").fill(spec, folder, data, "validation", run=pick_runner())
    bad = Labelled({"image": data.inputs["image"][:, :, :4]}, data.labels, spec.classes)
    try:
        PredictionStore(folder / "bad").fill(spec, folder, bad, "validation", run=pick_runner())
        refused = ""
    except PredictionError as error:
        refused = str(error)
    print(json.dumps({"computed": list(report.computed), "runner": pick_runner().__name__, "refused": refused}))
    """
)


@pytest.fixture(scope="module")
def on_ray(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray") / "home"
    data = tiny.spec.model_dump(mode="json", exclude_defaults=True)
    data["members"]["weak"] |= {"max_batch_size": 7, "replicas": {"min": 1, "max": 2}}
    data["members"]["middle"] |= {"resources": {"num_gpus": 0.5}}
    spec = type(tiny.spec).model_validate(data)
    folder.mkdir()
    (folder / "artifacts").symlink_to(tiny.folder / "artifacts")
    save_spec(spec, folder / "spec.yaml")
    rows = tiny.splits.validation.rows(slice(0, 101))
    np.savez(folder / "rows.npz", image=rows.inputs["image"], label=rows.labels)
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return spec, folder, rows, json.loads(done.stdout.splitlines()[-1])


def test_a_process_without_a_cluster_runs_members_itself():
    program = "from quorate.tuning import pick_runner, run_in_process; assert pick_runner() is run_in_process"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_actors_give_every_row_what_one_process_gives(on_ray):
    spec, folder, rows, said = on_ray
    assert said["runner"] == "run_on_ray"
    assert said["computed"] == ["weak", "middle", "strong"]
    stored = PredictionStore(folder / "store").read("validation", said["computed"])
    for name, probs in zip(said["computed"], stored, strict=True):
        np.testing.assert_allclose(probs, run_in_process(spec.job(name), folder, rows.inputs), atol=1e-6)


def test_what_ray_computed_is_kept_by_a_process_without_ray(on_ray):
    spec, folder, rows, _ = on_ray
    assert PredictionStore(folder / "store").fill(spec, folder, rows, "validation").computed == {}


def test_a_member_that_fails_on_every_row_is_named(on_ray):
    assert "members.weak: every row failed" in on_ray[3]["refused"]
