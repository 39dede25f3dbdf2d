"""Files of a revision on a node of the tests' own cluster."""

import hashlib
from pathlib import Path

import pytest

from quorate.deployments.errors import DeployError, MissingArtifactError
from quorate.deployments.records.kept_files import KeptFile, KeptFiles

WEIGHTS = b"weights"
DIGEST = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"


@pytest.fixture
def files(tmp_path):
    name = Path("artifacts", "revisions", tmp_path.name)
    return KeptFiles(name, (KeptFile("a/w.bin", DIGEST, len(WEIGHTS), "m"),))


def test_a_file_that_nobody_has_is_missing_in_words(cluster, files):
    from quorate.deployments.control.artifacts.bringing import bring

    sentence = r"a/w.bin \(sha256:9b8c26cca9a2\) is missing on this node: no other node is alive; deploy it again"
    with pytest.raises(MissingArtifactError, match=sentence.replace("9b8c26cca9a2", DIGEST[7:19])):
        bring(files)


def test_a_file_comes_out_of_the_store_and_stays_for_the_next_time(cluster, files, tmp_path):
    from dataclasses import replace

    from quorate.deployments.control.artifacts.bringing import bring

    store = tmp_path / "store"
    store.mkdir()
    (store / DIGEST[7:]).write_bytes(b"wrong")
    found = replace(files, store=f"file://{store}")
    with pytest.raises(MissingArtifactError, match=r"it came from none of file://.*what arrived is not sha256"):
        bring(found)
    (store / DIGEST[7:]).write_bytes(WEIGHTS)
    assert (bring(found) / "a" / "w.bin").read_bytes() == WEIGHTS
    (store / DIGEST[7:]).unlink()
    assert (bring(found) / "a" / "w.bin").read_bytes() == WEIGHTS


def test_a_node_that_has_all_files_and_did_not_say_so_says_so(cluster, files, tmp_path):
    from dataclasses import replace

    from quorate.deployments.control.artifacts.bringing import bring
    from quorate.deployments.control.artifacts.holders import Holders
    from quorate.deployments.control.artifacts.spreading import keep_copies
    from quorate.deployments.control.ray_private import ClusterStore

    (tmp_path / DIGEST[7:]).write_bytes(WEIGHTS)
    found, holders = replace(files, store=f"file://{tmp_path}"), Holders(ClusterStore())
    keep_copies(found)
    assert holders.of(files.name) == []  # it has none, and asks nobody
    bring(found)
    assert holders.of(files.name) == []
    keep_copies(found)
    assert holders.of(files.name) == [cluster.util.get_node_ip_address()]
    holders.drop_all_but(files.name.parent, set())
    assert holders.of(files.name) == []


def test_pieces_of_a_content_go_through_rays_object_store(cluster, tmp_path):
    import os

    from quorate.deployments.control.artifacts.transfer import pieces_from
    from quorate.deployments.control.ray_private import content_cache

    content = os.urandom(9_000_001)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    content_cache().add(digest, len(content), lambda start: [content[start:]])
    here = cluster.util.get_node_ip_address()
    assert b"".join(pieces_from(here, digest, len(content), 1_000_000, 0)) == content[1_000_000:]
    assert not list(pieces_from(here, digest, len(content), len(content), 0))


def test_the_cache_is_where_and_as_large_as_the_environment_says(monkeypatch, tmp_path):
    from quorate.deployments.control.ray_private import content_cache, kept_root

    monkeypatch.setenv("QUORATE_CACHE", str(tmp_path))
    assert kept_root() == tmp_path / "kept"
    monkeypatch.setenv("QUORATE_CACHE_BYTES", "10")
    for content in (b"1" * 9, b"2" * 9):
        (tmp_path / "file").write_bytes(content)
        content_cache().add_file(tmp_path / "file", f"sha256:{hashlib.sha256(content).hexdigest()}")
    assert content_cache().size_bytes == 9
    monkeypatch.setenv("QUORATE_CACHE_BYTES", "10 GB")
    with pytest.raises(DeployError, match="QUORATE_CACHE_BYTES is '10 GB', no number of bytes"):
        content_cache()
