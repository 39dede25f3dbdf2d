"""Manifests: valid by the schemas of those who read them, for every spec, and true to what they were asked for."""

import importlib.resources
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

import quorate
from quorate.cluster.cli.main import app
from quorate.cluster.manifest.helm_chart import helm_chart
from quorate.cluster.manifest.kubernetes import around
from quorate.cluster.manifest.pods import head_pod
from quorate.cluster.manifest.ray_service import ENTRY, ray_service, service_name
from quorate.cluster.manifest.settings import Settings
from quorate.cluster.manifest.worker_groups import worker_groups
from quorate.cluster.operations.exports.manifest import RAY_VERSION
from quorate.deployments import parse_spec
from quorate.deployments.control.serve.ensemble_application import EnsembleArguments
from quorate.deployments.errors import DeployError
from tests.cluster.support.every_spec import every_spec
from tests.cluster.support.kubernetes_schemas import check_objects
from tests.deployments.spec.test_check_placement import spec

RENDER = Path(__file__).parents[3] / ".venv-helm" / "render"
GPUS: dict[str, Any] = {
    "name": "gpus",
    "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
    "members": {
        "big": {"model": "m:f", "inputs": ["x"], "resources": {"num_gpus": 2, "accelerator_type": "H200"}},
        "small": {"model": "m:f", "inputs": ["x"], "resources": {"num_gpus": 0.5}, "replicas": {"min": 2, "max": 5}},
        "plain": {"model": "m:f", "inputs": ["x"], "max_memory_bytes": 3 << 30},
    },
    "classes": ["a", "b"],
    "fusion": {"rule": "mean"},
}


@pytest.fixture(autouse=True)
def _folder_with_code(tmp_path, monkeypatch):
    (tmp_path / "m.py").write_text("def f():\n    return lambda x: x\n")
    monkeypatch.chdir(tmp_path)


def objects_of(spec, folder, **changes):
    settings = Settings(
        **{"image": "quorate:test", "token_secret": "tokens", "accelerators": {"TPU-V4": "k=v"}} | changes
    )
    groups = worker_groups(spec, folder, settings.gpus_per_worker, settings.cpus_per_worker)
    return [ray_service(spec, groups, settings, RAY_VERSION), *around(service_name(spec.name), settings)]


def service_of(made):
    return next(found for found in made.objects if found["kind"] == "RayService")


def arguments_of(made):
    config = json.loads(service_of(made)["spec"]["serveConfigV2"])
    return config["applications"][0]["args"]


def test_the_manifest_of_every_spec_of_pages_and_of_tests_is_valid(tmp_path):
    specs = every_spec()  # here, since collecting tests should not read them all
    assert sum(".md:" in place for place in specs) >= 7
    assert len(specs) >= 40
    made = {place: objects_of(spec, tmp_path) for place, spec in specs.items()}
    for place, objects in made.items():
        print(f"the manifest of {place}")  # shown where it fails
        check_as_kuberay_does(objects[0], specs[place])
    check_objects([found for objects in made.values() for found in objects])


def check_as_kuberay_does(service, written):
    """What its own checks say and no schema does: ValidateRayServiceMetadata, ValidateRayClusterSpec."""
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"])
    assert len(service["metadata"]["name"]) <= 47
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert len({group["groupName"] for group in groups}) == len(groups)
    for group in groups:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", group["groupName"])
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert "labels" not in group["rayStartParams"]
    assert any(group["labels"]["quorate.io/doors"] == "yes" for group in groups)
    config = json.loads(service["spec"]["serveConfigV2"])
    EnsembleArguments.model_validate(config["applications"][0]["args"])
    assert parse_spec(config["applications"][0]["args"]["spec"]) == written


@pytest.mark.parametrize(
    "changes",
    [
        {"volume": "models", "namespace": "serving", "tls_secret": "certificate"},
        {"token_secret": "", "insecure": True, "http_port": 80, "grpc_port": 81},
        {"redis": "redis:6379", "redis_secret": "redis", "gateway": "istio"},
        {"gcs_volume": "2Gi", "ray_tls": True, "gpus_per_worker": 4},
        {"store": "s3://bucket/models", "store_secret": "bucket"},
    ],
)
def test_what_can_be_asked_for_is_valid(changes, tmp_path):
    check_objects(objects_of(parse_spec(GPUS), tmp_path, **changes))


def test_replicas_are_packed_by_the_kind_of_node_and_what_scales_has_pods_of_its_own(tmp_path):
    groups = {group.name: group for group in worker_groups(parse_spec(GPUS), tmp_path, 1, 4)}
    assert {name: (g.gpus, g.least, g.most) for name, g in groups.items()} == {
        "h200": (2, 1, 1),  # one replica needs two
        "gpu": (1, 1, 3),  # two halves, then five
        "cpu": (0, 1, 1),
    }
    assert all(group.doors for group in groups.values())
    assert groups["cpu"].memory_bytes >> 30 == 6  # as the spec says, a door, and Ray itself
    made = quorate.manifest(GPUS, folder=tmp_path)
    found = {group["groupName"]: group for group in service_of(made)["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    assert (found["gpu"]["minReplicas"], found["gpu"]["maxReplicas"]) == (1, 1)
    assert (found["gpu-burst"]["minReplicas"], found["gpu-burst"]["maxReplicas"]) == (0, 2)
    assert found["gpu-burst"]["labels"] == {"quorate.io/doors": "no"}
    assert service_of(made)["spec"]["rayClusterConfig"]["autoscalerOptions"]["version"] == "v2"
    pod = found["h200"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["NVIDIA-H200", "NVIDIA-H200-NVL"]
    assert arguments_of(made)["nodes"] == 3


def test_members_that_share_a_process_fit_into_one_pod(tmp_path):
    halves = {name: {"resources": {"num_cpus": 3}} for name in "abc"}
    apart, together = spec(halves), spec(halves, together=[["a", "b", "c"]])
    [found] = worker_groups(apart, tmp_path, 1, 4)
    assert (found.least, found.cpus) == (3, 4)  # a door beside each
    [found] = worker_groups(together, tmp_path, 1, 4)
    assert (found.least, found.cpus, found.parts) == (1, 10, ("a", "b", "c"))


def test_a_door_that_only_some_nodes_may_have_gets_pods_of_its_own_where_no_member_is(tmp_path):
    doors = {"resources": {"labels": {"role": "door"}, "num_cpus": 2}, "replicas": {"max": 2}}
    groups = worker_groups(parse_spec({**GPUS, "serving": doors}), tmp_path, 1, 4)
    assert [(group.name, group.doors, group.cpus) for group in groups if group.labels] == [("cpu-2", True, 4)]
    assert sum(group.doors for group in groups) == 1


def test_the_head_schedules_nothing_and_its_autoscaler_may_ask_kubernetes(tmp_path):
    cluster = objects_of(parse_spec(GPUS), tmp_path)[0]["spec"]["rayClusterConfig"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"]
    assert not head_pod("x", Settings("i", token_secret="t"), False)["spec"]["automountServiceAccountToken"]


def test_names_that_kubernetes_does_not_take_are_changed_and_stay_different():
    names = [
        service_name(name) for name in ("digits", "Digits", "_digits", "7digits", "d_i", "d-i", "a" * 60, "a" * 61)
    ]
    assert names[0] == "digits"
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name) for name in names)


def test_pods_with_other_files_than_the_manifest_was_made_of_are_told_by_digests(tmp_path):
    spec = {**GPUS, "members": {"plain": GPUS["members"]["plain"]}}
    one = arguments_of(quorate.manifest(spec, folder=tmp_path))["spec"]["digests"]
    (tmp_path / "m.py").write_text("def f(): return lambda x: 2 * x\n")
    other = arguments_of(quorate.manifest(spec, folder=tmp_path))["spec"]["digests"]
    assert one.keys() == other.keys() == {"members.plain.code"}
    assert one != other


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"models": "models"}, "models is 'models'; give an absolute path in the pods"),
        ({"grpc_port": 8000}, "grpc_port is 8000; give another than the HTTP door's"),
        ({"insecure": True, "token_secret": "t"}, "insecure is True; give a token secret, or insecure"),
        ({"redis": "r:1", "gcs_volume": "1Gi"}, "gcs_volume is '1Gi'; give one of it and redis"),
        ({"redis_secret": "r"}, "redis_secret is 'r'; give redis, too"),
        ({"store_secret": "s"}, "store_secret is 's'; give store, too"),
        ({"gcs_volume": "much"}, "gcs_volume is 'much'; give a size such as 2Gi"),
        ({"namespace": "Mine"}, "namespace is 'Mine'; give a name as Kubernetes has them"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(changes, sentence):
    with pytest.raises(DeployError) as error:
        quorate.manifest(GPUS, **changes)
    assert str(error.value) == sentence


def test_an_accelerator_whose_nodes_nobody_knows_is_asked_for(tmp_path):
    members = {"m": {"model": "m:f", "inputs": ["x"], "resources": {"num_gpus": 1, "accelerator_type": "MI300"}}}
    with pytest.raises(DeployError, match=r"say which label they have: --accelerator MI300=KEY=VALUE"):
        quorate.manifest({**GPUS, "members": members}, folder=tmp_path)
    made = quorate.manifest({**GPUS, "members": members}, folder=tmp_path, accelerators={"MI300": "gpu=mi300"})
    assert '"gpu"' not in made.text
    assert "mi300" in made.text


def test_ray_is_the_version_that_is_installed_and_that_the_image_has():
    import ray

    assert ray.__version__ == RAY_VERSION
    assert ENTRY in quorate.manifest(GPUS).text


@pytest.mark.parametrize("word", ["y", "n", "0o17", "1_000", "on", "~", "12:30", "0x1f", "é", "a: b", "#x", "{{x}}"])
def test_texts_are_read_as_they_were_written(word, tmp_path):
    made = quorate.manifest({**GPUS, "classes": [word, "b"]}, folder=tmp_path)
    assert arguments_of(made)["spec"]["classes"] == [word, "b"]
    service = next(found for found in yaml.safe_load_all(made.text) if found["kind"] == "RayService")
    assert service == service_of(made)


def rendered(text, values, files):
    """What Helm makes of the few things that our templates have."""

    def tree(match):
        return "\n" + "\n".join(
            " " * int(match[2]) + line for line in yaml.dump(look_up(match[1], values)).splitlines()
        )

    text = re.sub(
        r'{{ \.Files\.Get "(.*?)" \| indent (\d+) }}',
        lambda m: "\n".join(" " * int(m[2]) + line for line in files[m[1]].splitlines()), text,
    )  # fmt: skip
    text = re.sub(r"{{- toYaml (.*?) \| nindent (\d+) }}", tree, text)
    text = re.sub(r"{{ (\.Values\.\w+) \| quote }}", lambda m: json.dumps(look_up(m[1], values)), text)
    return re.sub(r"{{ (\(index.*?) }}", lambda m: str(look_up(m[1], values)), text)


def look_up(path, values):
    path = re.sub(r'\(index \.Values\.(\w+) "(.*?)"\)', r".Values.\1.\2", path)
    for name in path.split(".")[2:]:
        values = values[name]
    return values


def test_the_chart_is_the_manifest_with_values_that_can_be_changed(tmp_path):
    objects = objects_of(parse_spec({**GPUS, "classes": ["{{ .Values.image }}", "b"]}), tmp_path)
    files = helm_chart(objects, "1.2.3")
    values = yaml.safe_load(files["values.yaml"])
    assert yaml.safe_load(files["Chart.yaml"])["apiVersion"] == "v2"
    templates = [text for path, text in files.items() if path.startswith("templates/")]
    made = [yaml.safe_load(rendered(text, values, files)) for text in templates]
    check_objects(made)
    extra: dict[str, Any] = {"imagePullSecrets": [], "tolerations": [], "affinity": {}, "nodeSelector": {}}
    for found, wanted in zip(made, objects, strict=True):
        for pod in pods_of(found):
            for field, nothing in extra.items():
                if pod.get(field) == nothing:
                    del pod[field]
        if found["kind"] == "RayService":
            found["spec"]["serveConfigV2"] = found["spec"]["serveConfigV2"].rstrip("\n")
        assert found == wanted
    values["workers"]["gpu-burst"]["maxReplicas"] = 9
    assert "maxReplicas: 9" in rendered(files["templates/rayservice.yaml"], values, files)


def pods_of(found):
    if found["kind"] != "RayService":
        return []
    cluster = found["spec"]["rayClusterConfig"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.skipif(not RENDER.is_file(), reason="Helm's templates are not built here: make test-helm")
def test_helms_own_template_engine_makes_the_manifest_of_the_chart(tmp_path):
    quorate.manifest(GPUS, platform="helm", output=tmp_path / "chart")
    done = subprocess.run([RENDER, tmp_path / "chart"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = [found for found in yaml.safe_load_all(done.stdout) if found]
    check_objects(made)
    files = {str(path.relative_to(tmp_path / "chart")): path.read_text() for path in (tmp_path / "chart").rglob("*.*")}
    values = yaml.safe_load(files["values.yaml"])
    templates = sorted(path for path in files if path.startswith("templates/"))
    assert made == [yaml.safe_load(rendered(files[path], values, files)) for path in templates]


def test_rays_launcher_takes_the_file_and_secrets_are_beside_it(tmp_path):
    made = quorate.ray_up(GPUS, tmp_path / "out", head="10.0.0.1", workers=["10.0.0.2"], ssh_user="me")
    schema = json.loads((importlib.resources.files("ray.autoscaler") / "ray-schema.json").read_text())
    config = yaml.safe_load((tmp_path / "out" / "cluster.yaml").read_text())
    jsonschema.validate(config, schema)
    from ray.autoscaler._private.local.config import prepare_local

    prepared, _ = prepare_local(config)
    assert prepared["available_node_types"]["local.cluster.node"]["min_workers"] == 1
    secrets = tmp_path / "out" / "secrets"
    assert config["file_mounts"] == {"~/.quorate/cluster": str(secrets)}
    kept = {path.name: path.read_text() for path in secrets.iterdir()}
    assert kept.keys() == {"ray-token", "ca.crt", "ca.key"}
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}
    assert kept["ray-token"] not in made.text
    assert "PRIVATE" not in made.text
    again = quorate.ray_up(GPUS, tmp_path / "out", head="10.0.0.1")
    assert {path.name: path.read_text() for path in secrets.iterdir()} == kept
    assert again.name == made.name


@pytest.fixture
def command(tmp_path):
    (tmp_path / "gpus.yaml").write_text(yaml.safe_dump(GPUS))

    def run(*words):
        done = CliRunner().invoke(app, ["manifest", "gpus.yaml", *words])
        return done.exit_code, done.output

    return run


def test_the_command_prints_what_python_gives(command):
    code, printed = command("--namespace", "serving", "--redis", "redis:6379", "--accelerator", "H200=gpu=h200")
    made = quorate.manifest("gpus.yaml", namespace="serving", redis="redis:6379", accelerators={"H200": "gpu=h200"})
    assert (code, printed) == (0, made.text)


def test_the_command_writes_files(command, tmp_path):
    assert command("--output", "one.yaml")[0] == 0
    assert command("--for", "helm", "--output", "chart")[0] == 0
    assert command("--for", "ray", "--head", "10.0.0.1", "--output", "cluster")[0] == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found >= {"one.yaml", "chart/Chart.yaml", "cluster/cluster.yaml", "cluster/secrets/ray-token"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--for helm", "--for helm writes several files; give --output, a folder"),
        ("--for ray --output x", "--for ray needs --head, the address of a machine"),
        ("--for ray --output x --head h --image i", "--image is for --for kuberay and helm"),
        ("--head h", "--head is for --for ray"),
        ("--accelerator H200", "'H200' says no label of a type; write H200=nvidia.com/gpu.product=NVIDIA-H200"),
    ],
)
def test_options_that_do_not_go_together_are_refused(command, words, sentence):
    code, printed = command(*words.split())
    assert (code, sentence in " ".join(printed.split())) == (2, True), printed
