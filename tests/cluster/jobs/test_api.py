"""The Jobs API of a cluster that asks for a token, or is none; and what is sent of Quorate itself."""

import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from threading import Thread

import pytest

import quorate
from quorate.cluster.jobs.api import JobsApi
from quorate.cluster.local.connection import connected
from quorate.deployments.errors import ClusterError, UnavailableError
from quorate.deployments.own_code.archive import own_archive, own_digest
from quorate.deployments.own_code.boot import code_digest

TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


class Asking(BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does with RAY_AUTH_MODE=token."""

    def do_GET(self):
        shown = self.headers.get("authorization")
        self.send_response(401 if shown is None else 200 if shown == "Bearer right" else 403)
        self.end_headers()
        self.wfile.write(b'{"status": "RUNNING", "message": "runs"}')

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    with HTTPServer(("127.0.0.1", 0), Asking) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_token(monkeypatch, tmp_path):
    for name in TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def status(address):
    with JobsApi(address) as api:
        return api.status("job")


def test_the_token_is_found_where_rays_clients_find_it(address, monkeypatch, tmp_path):
    with pytest.raises(ClusterError, match="asks for a token, and none was shown; put it into RAY_AUTH_TOKEN"):
        status(address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(ClusterError, match="the one that was shown is not its own"):
        status(address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    assert status(address) == ("RUNNING", "runs")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("right\n")
    assert status(address) == ("RUNNING", "runs")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ClusterError, match="none was shown"):
        status(address)


def test_an_address_where_nobody_answers_is_told_in_a_sentence():
    with pytest.raises(ClusterError, match=r"no cluster's Jobs API answers at http://127.0.0.1:9 \(.*http://HEAD:8265"):
        status("http://127.0.0.1:9")


def test_what_needs_a_node_says_what_works_through_the_jobs_api():
    sentence = "is a Jobs address: commands, .* this needs a node"
    with pytest.raises(ClusterError, match=sentence), connected("http://127.0.0.1:9"):
        pass


def test_the_archive_of_quorate_is_quorate_wherever_it_is_unpacked(tmp_path):
    zipfile.ZipFile(BytesIO(own_archive())).extractall(tmp_path)
    assert code_digest(tmp_path / "quorate") == own_digest()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import quorate, quorate.cluster.cli.in_job as j; "
    code += "print(j.__file__, quorate.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd="/")
    file, version = done.stdout.split()
    assert (file.startswith(str(tmp_path)), version) == (True, quorate.__version__)


def test_a_job_that_connects_anew_is_on_no_cluster_for_a_moment_and_is_told_so(monkeypatch):
    from ray.experimental import internal_kv

    from quorate.cluster.jobs.receiving import is_there

    monkeypatch.setattr(internal_kv, "global_gcs_client", None)
    with pytest.raises(UnavailableError, match="this process is connected to no cluster's head; connect first"):
        is_there("quorate-0-stop.json")
