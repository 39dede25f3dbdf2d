"""A real HTTP server that takes what a webhook is sent."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def webhook_receiver(fails=0):
    """What was sent, as it comes, and the address; the first ``fails`` are answered with an error."""
    found = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            found.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if len(found) <= fails else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found, f"http://127.0.0.1:{server.server_port}/hook/secret"
    server.shutdown()
    server.server_close()
    thread.join()
