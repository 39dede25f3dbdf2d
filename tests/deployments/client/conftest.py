"""A server that refuses until it has been asked often enough."""

import http.server
import threading

import pytest


class Busy(http.server.BaseHTTPRequestHandler):
    """Refuses with 503 and a Retry-After until it has been asked often enough, then answers with metadata."""

    asked = 0
    refusals = 2
    retry_after = "1"

    def do_GET(self):
        if self.path == "/v2":  # clients look for other doors
            self.send_error(404)
            return
        type(self).asked += 1
        refused = self.asked <= self.refusals
        self.send_response(503 if refused else 200)
        if refused:
            self.send_header("retry-after", self.retry_after)
        body = b'{"error": "the queue is full"}' if refused else b'{"name": "busy"}'
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Not into the test's output."""


@pytest.fixture
def busy():
    handler = type("Handler", (Busy,), {})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
