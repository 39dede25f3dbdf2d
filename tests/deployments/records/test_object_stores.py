"""Stores in object storage: Arrow's own clients against servers of S3's and GCS's protocols."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from pyarrow import fs

from quorate.deployments.errors import DeployError
from quorate.deployments.records.artifact_store import check_uri, open_store, upload
from quorate.deployments.records.kept_files import KeptFile, KeptFiles

ROOT = Path(__file__).parents[3]
SERVERS = ROOT / ".venv-stores" / "bin" / "python"
CONTENT = os.urandom(11 << 20)  # more than one part of an upload


def digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def serve(code):
    """A server in the environment of ``make test-stores``, whose first line says its port."""
    if not SERVERS.exists():
        pytest.skip("servers of S3's and GCS's protocols are not installed: make test-stores")
    return subprocess.Popen(
        [str(SERVERS), "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def address(process):
    return f"127.0.0.1:{int(process.stdout.readline())}"


_S3 = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def s3():
    """The address of a server with a bucket ``models``."""
    process = serve(_S3)
    here = address(process)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHETESTS")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-tests")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        fs.S3FileSystem(endpoint_override=here, scheme="http", allow_bucket_creation=True).create_dir("models")
        yield here
    process.communicate("", timeout=30)


def uri(s3, place="models/quorate"):
    return f"s3://{place}?endpoint_override={s3}&scheme=http&region=us-east-1"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "weights").write_bytes(CONTENT)
    return KeptFiles(tmp_path, (KeptFile("weights", digest(CONTENT), len(CONTENT)),))


def in_store(files, uri):
    return KeptFiles(files.name, files.files, uri)


def test_a_bucket_has_each_content_once_and_gives_it_from_any_byte(s3, files, tmp_path):
    found = in_store(files, uri(s3))
    assert [upload(found, tmp_path), upload(found, tmp_path)] == [len(CONTENT), 0]
    assert b"".join(open_store(uri(s3)).read(digest(CONTENT), 9_000_001)) == CONTENT[9_000_001:]
    listed = fs.S3FileSystem(endpoint_override=s3, scheme="http").get_file_info(fs.FileSelector("models/quorate"))
    assert [(one.base_name, one.size) for one in listed] == [(digest(CONTENT)[7:], len(CONTENT))]


def test_what_a_bucket_has_not_is_not_there(s3):
    with pytest.raises(FileNotFoundError):
        next(open_store(uri(s3)).read(digest(b"another"), 0))


def test_a_file_that_is_not_what_it_was_does_not_stay_in_the_bucket(s3, files, tmp_path):
    (tmp_path / "weights").write_bytes(CONTENT[:-1] + b"?")
    place = uri(s3, "models/changed")
    with pytest.raises(DeployError, match="weights was changed while it was deployed"):
        upload(in_store(files, place), tmp_path)
    with pytest.raises(FileNotFoundError):
        next(open_store(place).read(digest(CONTENT), 0))


@pytest.mark.parametrize("where", ["models", "nothing-of-this-name"])
def test_a_bucket_that_cannot_be_written_to_is_told_in_a_sentence(s3, files, tmp_path, where):
    place = uri(s3, "nothing-of-this-name/x") if where != "models" else uri("127.0.0.1:9", "models/x")
    with pytest.raises(DeployError, match=r"s3://.* cannot be written to \(.*\); check --store"):
        upload(in_store(files, place), tmp_path)


@pytest.mark.parametrize(
    "secret",
    [
        "s3://AKIAX:hush@models/x",
        "s3://hush@models/x",
        "gs://models/x?access_token=hush",
        "abfs://:hush@account.dfs.core.windows.net/models",
        "abfs://models@account.dfs.core.windows.net/x?client_secret=hush",
    ],
)
def test_credentials_in_the_uri_are_refused_and_not_repeated(secret):
    with pytest.raises(DeployError, match="has credentials in it, which records would keep; give them in the") as said:
        open_store(secret)
    assert "hush" not in str(said.value)


@pytest.mark.parametrize("place", ["s3://b/x?region=r", "gs://anonymous@b/x", "abfs://box@a.dfs.core.windows.net/x"])
def test_who_a_store_belongs_to_is_no_credential(place):
    check_uri(place)


def test_it_waits_as_long_as_a_slow_link_takes(s3):
    (options,) = open_store(uri(s3))._system.__reduce__()[1]
    assert (options["connect_timeout"], options["request_timeout"]) == (10, 60)
    assert options["secret_key"] is None
    (options,) = open_store("gs://anonymous@models/x")._system.__reduce__()[1]
    assert options["retry_time_limit"].total_seconds() == 60


# Clients keep several connections, and the emulator answers one at a time: the others wait for ever.
_GCS = """
import http.server
import sys
http.server.HTTPServer = http.server.ThreadingHTTPServer
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="models")
server.start()
print(server._api._httpd.socket.getsockname()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def gcs():
    """The address of a server of GCS's protocol with a bucket ``models``."""
    process = serve(_GCS)
    yield address(process)
    process.communicate("", timeout=30)


def test_a_bucket_of_gcs_does_the_same(gcs, files, tmp_path):
    place = f"gs://anonymous@models/quorate?endpoint_override={gcs}&scheme=http"
    found = in_store(files, place)
    assert [upload(found, tmp_path), upload(found, tmp_path)] == [len(CONTENT), 0]
    assert b"".join(open_store(place).read(digest(CONTENT), 9_000_001)) == CONTENT[9_000_001:]
    with pytest.raises(FileNotFoundError):
        next(open_store(place).read(digest(b"another"), 0))
