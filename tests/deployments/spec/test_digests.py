"""A revision's name stands for one content: of files, of code, of what configs name."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.digests import check_fusions, check_member, pin
from quorate.deployments.spec.factory_code import code_files
from quorate.deployments.spec.patch import revise

FACTORY = "import helpers_of_factory\n\ndef make(vocabulary):\n    return helpers_of_factory.model\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_own_factory.py").write_text(FACTORY)
    (tmp_path / "helpers_of_factory.py").write_text("import json\n\ndef model(x):\n    return x\n")
    (tmp_path / "stranger.py").write_text("")
    (tmp_path / "words.txt").write_text("a b")
    for name in ("state", "scale", "member"):
        save_file({"x": np.zeros(2, np.float32)}, tmp_path / f"{name}.safetensors")
    return tmp_path


def spec(**changes):
    return parse_spec(
        {
            "name": "pinned",
            "inputs": {"x": {"datatype": "FP32", "shape": [2]}},
            "classes": ["red", "green"],
            "members": {
                "a": {"model": "my_own_factory:make", "config": {"vocabulary": "words.txt"}, "inputs": ["x"]},
                "b": {"model": "torch.nn:Linear", "weights": "member.safetensors", "inputs": ["x"]},
            },
            "fusion": {
                "rule": "stacking",
                "state": "state.safetensors",
                "calibration": {"state": "scale.safetensors"},
                "member_calibration": {"a": {"state": "scale.safetensors"}},
            },
            **changes,
        }
    )


def test_every_named_file_and_the_code_beside_the_spec_have_digests(folder):
    assert sorted(pin(spec(), folder).digests) == [
        "fusion.calibration.state", "fusion.member_calibration.a.state", "fusion.state",
        "members.a.code", "members.a.config.vocabulary", "members.b.weights",
    ]  # fmt: skip
    assert [str(path) for path in code_files("my_own_factory:make", folder)] == [
        "helpers_of_factory.py", "my_own_factory.py",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "restarts"),
    [
        ("state.safetensors", set()),
        ("scale.safetensors", set()),
        ("member.safetensors", {"b"}),
        ("words.txt", {"a"}),
        ("my_own_factory.py", {"a"}),
        ("helpers_of_factory.py", {"a"}),
    ],
)
def test_another_content_is_another_revision_and_restarts_only_whose_it_is(folder, file, restarts):
    before = pin(spec(), folder)
    with (folder / file).open("ab") as opened:
        opened.write(b"#")
    after = pin(spec(), folder)
    assert before.revision != after.revision
    assert {name for name in after.members if before.job(name) != after.job(name)} == restarts


def test_a_file_beside_the_spec_that_nothing_imports_changes_nothing(folder):
    before = pin(spec(), folder)
    (folder / "stranger.py").write_text("print()")
    assert pin(spec(), folder).revision == before.revision


def test_other_inputs_are_another_revision(folder):
    wider = spec(inputs={"x": {"datatype": "FP32", "shape": [3]}})
    assert pin(spec(), folder).revision != pin(wider, folder).revision


@pytest.mark.parametrize("file", ["state.safetensors", "scale.safetensors"])
def test_a_state_that_was_overwritten_is_refused_where_it_is_loaded(folder, file):
    pinned = pin(spec(), folder)
    check_fusions(pinned, folder)
    (folder / file).write_bytes(b"other")
    with pytest.raises(SpecError, match=r"fusion\..*state: it has sha256:.* was deployed; restore it"):
        check_fusions(pinned, folder)


@pytest.mark.parametrize("file", ["my_own_factory.py", "helpers_of_factory.py", "words.txt"])
def test_a_member_whose_files_are_not_those_that_were_deployed_is_refused(folder, file):
    job = pin(spec(), folder).job("a")
    check_member(job, folder)
    (folder / file).write_text("other = 1")
    with pytest.raises(SpecError, match=r"members\.a\..* was deployed"):
        check_member(job, folder)


def test_a_publication_that_drops_a_file_drops_its_digest(folder):
    pinned = pin(spec(), folder)
    bare = revise(pinned, '{"fusion": {"rule": "mean", "state": null, "calibration": null, "member_calibration": {}}}')
    assert sorted(bare.digests) == ["members.a.code", "members.a.config.vocabulary", "members.b.weights"]
    check_fusions(bare, folder)


def test_folders_that_a_config_names_are_part_of_the_revision(folder):
    (folder / "tokenizer" / "inner").mkdir(parents=True)
    (folder / "tokenizer" / "inner" / "words").write_text("a b")
    config = {"path": "tokenizer/", "kind": "tokenizer", "size": 3, "more": [{"deep": "./tokenizer/inner"}]}
    found = spec(
        members={"a": {"model": "my_own_factory:make", "config": config, "inputs": ["x"]}}, fusion={"rule": "mean"}
    )
    pinned = pin(found, folder)
    fields = {field for field in pinned.digests if ".config." in field}
    assert fields == {"members.a.config.path", "members.a.config.more.0.deep"}
    (folder / "tokenizer" / "inner" / "words").write_text("a c")
    assert pin(found, folder).revision != pinned.revision
    with pytest.raises(SpecError, match=r"members\.a\.config\.\S+: it has sha256:.* was deployed"):
        check_member(pinned.job("a"), folder)
