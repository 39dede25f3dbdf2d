"""A member that is a folder: digested, kept and copied whole, with the adapter that its config names."""

import shutil

import pytest
import yaml

from quorate.deployments import load_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.records.kept_files import keep_files
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.digests import check_member, pin
from quorate.tuning.runs.run_folder import save_deployable

# What save_pretrained of transformers 5.24 and of PEFT 0.21 write; nothing here reads what is in them.
FILES = (
    "tinybert/config.json", "tinybert/model.safetensors", "tinybert/tokenizer.json", "tinybert/tokenizer_config.json",
    "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/README.md",
)  # fmt: skip
BERT = {"model": "hf:nets/tinybert", "config": {"adapter": "nets/adapter"}, "inputs": ["text"]}
SPEC = {
    "name": "mood",
    "inputs": {"text": {"datatype": "BYTES", "shape": []}},
    "members": {"bert": BERT},
    "fusion": {"rule": "mean"},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for path in FILES:
        (folder / "nets" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "nets" / path).write_text("{}")
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "mood")
    return tmp_path / "mood"


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_of_the_folder_and_of_its_adapter_is_part_of_the_revision(folder):
    spec = load_spec(folder / "spec.yaml")
    before = pin(spec, folder)
    assert list(before.digests) == ["members.bert.model", "members.bert.config.adapter"]
    assert before.members["bert"].digest == before.digests["members.bert.model"]
    for path in sorted((folder / "nets").rglob("*.json")):
        text = path.read_text()
        path.write_text(text + " ")
        after = pin(spec, folder)
        assert after.revision != before.revision
        assert after.job("bert") != before.job("bert")
        path.write_text(text)


def test_what_is_kept_of_a_revision_stays_when_the_folder_changes(folder, tmp_path):
    pinned = pin(load_spec(folder / "spec.yaml"), folder)
    kept = tmp_path / "kept" / keep_files(pinned, folder, tmp_path / "kept").name
    wanted = files(folder / "nets")
    shutil.rmtree(folder / "nets")
    assert files(kept / "nets") == wanted
    check_member(pinned.job("bert"), kept)


def test_a_folder_that_was_changed_since_it_was_deployed_is_refused_where_it_is_loaded(folder):
    job = pin(load_spec(folder / "spec.yaml"), folder).job("bert")
    (folder / "nets" / "adapter" / "adapter_config.json").write_text("{ }")
    with pytest.raises(SpecError, match=r"members.bert.config.adapter: it has sha256:.* was deployed; restore it"):
        check_member(job, folder)
    (folder / "nets" / "tinybert" / "tokenizer.json").write_text("{ }")
    with pytest.raises(MemberLoadError, match=r"tinybert should have sha256:.* restore the file"):
        load_model("bert", job.member, folder)


@pytest.mark.parametrize("outside", [False, True])
def test_a_runs_folder_holds_all_of_it_and_is_deployable(folder, tmp_path, outside):
    if outside:  # a model that lies above the spec goes into the run's artifacts
        shutil.move(folder / "nets" / "tinybert", tmp_path / "tinybert")
        member = {**BERT, "model": "hf:../tinybert"}
        (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, "members": {"bert": member}}))
    spec = load_spec(folder / "spec.yaml")
    written = save_deployable(spec, folder, tmp_path / "run")
    again = load_spec(tmp_path / "run" / "spec.yaml")
    assert again == written
    assert again.members["bert"].model.startswith("hf:artifacts/bert-" if outside else "hf:nets/tinybert")
    assert pin(again, tmp_path / "run").digests == pin(spec, folder).digests
