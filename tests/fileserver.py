"""A web server for tests, and a machine that has no weights and no token."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants


class _Crowded(ThreadingHTTPServer):
    request_queue_size = 64  # a call that finds the queue full waits a second


class Server:
    """A web server on this machine: `answers[path]` is (status, headers, body), or makes it."""

    def __init__(self):
        self.answers = {}
        self.asked = []  # (method, path, authorisation)
        handler = type("Handler", (BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
        handler.do_GET = handler.do_HEAD = lambda call: self._answer(call)
        self._server = _Crowded(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _answer(self, call):
        path = call.path.partition("?")[0]
        self.asked.append((call.command, path, call.headers["Authorization"]))
        answer = self.answers.get(path, (404, {}, b""))
        status, headers, body = answer(call) if callable(answer) else answer
        call.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value is not None:
                call.send_header(name, value)
        call.end_headers()
        if call.command == "GET":
            call.wfile.write(body)

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def settle(folder, monkeypatch):
    """Make an empty folder the place of all weights, and forget any token and proxy."""
    monkeypatch.setenv("SEGLIB_WEIGHTS", str(folder / "weights"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
