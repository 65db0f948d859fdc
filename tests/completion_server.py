"""A small server with the chat API, for what only a server can show."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


class CompletionServer:
    """Always answers ``answer``; while it isn't ``up``, that it is loading its model.

    Attributes:
        asked: the bodies of all requests.
    """

    def __init__(self, answer: str = "1", up: bool = True, refuses: str = "") -> None:
        """Args:
        refuses: a field that it doesn't take.
        """
        self.up = up
        self.asked: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"data": [{"id": "m"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(body)
                if refuses in body:
                    self.answer(400, {"error": {"code": 400, "message": f"{refuses} is not supported here"}})
                    return
                choice = {"message": {"content": answer}, "finish_reason": "stop", "index": 0}
                usage = {"prompt_tokens": 3, "completion_tokens": 1}
                self.answer(200, {"choices": [choice], "usage": usage}) if server.up else self.answer(503, LOADING)

            def answer(self, status: int, document: object) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
