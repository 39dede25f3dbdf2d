"""The cache of contents: whole or not there, resumed, passed on while it grows, and evicted by the last use."""

import hashlib
import itertools
import os
import threading

import pytest

from quorate.deployments.errors import DamagedContentError, DeployError
from quorate.deployments.records.artifact_store import open_store, upload
from quorate.deployments.records.content_cache import ContentCache
from quorate.deployments.records.kept_files import KeptFile, KeptFiles


def digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def pieces(content):
    """What a sender gives from a byte on, three bytes at a time."""
    return lambda start: (content[at : at + 3] for at in range(start, len(content), 3))


def add(cache, content):
    cache.add(digest(content), len(content), pieces(content))


def test_what_was_interrupted_goes_on_where_it_ended(tmp_path):
    cache, content, starts = ContentCache(tmp_path), os.urandom(30), []

    def sender(until):
        def send(start):
            starts.append(start)
            yield from itertools.islice(pieces(content)(start), until)
            if until < 10:
                raise OSError("the node is gone")

        return send

    with pytest.raises(OSError, match="gone"):
        cache.add(digest(content), 30, sender(4))
    assert not cache.has(digest(content))
    cache.add(digest(content), 30, sender(10))
    assert starts == [0, 12]
    assert cache.path(digest(content)).read_bytes() == content
    assert not list((tmp_path / "receiving").iterdir())


def test_what_is_not_of_its_digest_is_refused_and_asked_for_anew(tmp_path):
    cache = ContentCache(tmp_path)
    with pytest.raises(DamagedContentError, match="is not sha256:"):
        cache.add(digest(b"right"), 5, pieces(b"wrong"))
    assert not cache.has(digest(b"right"))
    cache.add(digest(b"right"), 5, pieces(b"right"))
    assert cache.path(digest(b"right")).read_bytes() == b"right"


def test_a_content_is_passed_on_while_it_is_still_being_received(tmp_path):
    cache, content, on = ContentCache(tmp_path), os.urandom(9), threading.Semaphore(0)

    def slowly(start):
        for piece in pieces(content)(start):
            yield piece
            on.acquire()

    receiving = threading.Thread(target=cache.add, args=(digest(content), 9, slowly))
    receiving.start()
    passed = cache.read(digest(content), 9, 0, wait_s=60)
    assert next(passed) == content[:3]
    on.release(3)
    assert b"".join(passed) == content[3:]
    receiving.join()
    assert b"".join(cache.read(digest(content), 9, 4)) == content[4:]
    with pytest.raises(FileNotFoundError):
        next(cache.read(digest(b"another"), 7, 0))


def test_over_its_limit_it_evicts_what_was_used_longest_ago_and_never_what_is_in_use(tmp_path):
    cache, contents = ContentCache(tmp_path, limit_bytes=30), [bytes([number]) * 10 for number in range(4)]
    for content in contents[:3]:
        add(cache, content)
    assert cache.link(digest(contents[0]), tmp_path / "revision" / "weights")
    add(cache, contents[3])
    assert [cache.has(digest(content)) for content in contents] == [True, False, True, True]
    big = bytes([9]) * 100
    add(cache, big)  # what is needed comes in all the same
    assert [cache.has(digest(content)) for content in (*contents, big)] == [True, False, False, False, True]
    assert cache.size_bytes == 110


def test_a_store_keeps_each_content_once_and_gives_it_back_from_any_byte(tmp_path):
    place, uri = tmp_path / "kept", f"file://{tmp_path}/store/models"
    place.mkdir()
    (place / "a").write_bytes(b"weights")
    files = KeptFiles(tmp_path, (KeptFile("a", digest(b"weights"), 7), KeptFile("a", digest(b"weights"), 7, "m")), uri)
    assert [upload(files, place), upload(files, place)] == [7, 0]
    assert [path.name for path in (tmp_path / "store" / "models").iterdir()] == [digest(b"weights")[7:]]
    assert b"".join(open_store(uri).read(digest(b"weights"), 3)) == b"ghts"


@pytest.mark.parametrize("uri", ["ftp://host/folder", "models", "file:///proc/nothing/there"])
def test_a_store_that_is_none_is_told_in_a_sentence(uri, tmp_path):
    (tmp_path / "a").write_bytes(b"w")
    with pytest.raises(DeployError, match="--store"):
        upload(KeptFiles(tmp_path, (KeptFile("a", digest(b"w"), 1),), uri), tmp_path)
