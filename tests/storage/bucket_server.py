"""A storage server on the loopback address: an emulator in memory behind a proxy that keeps conditions, and breaks.

`python bucket_server.py BUCKET` prints the address and serves until its standard input ends, so that it never outlives
the test that started it. The emulator ignores `ifGenerationMatch`; the proxy answers 412 where it does not hold, and
handles one writing request at a time. What it does besides is set by `POST /_control` with a JSON object:

- `fault`: null, or {"kind": "error" | "hang" | "slow" | "cut", "pattern": a regular expression that "METHOD PATH" has
  to match, "count": for how many requests (null: all)}: a 503, no answer for a minute, an answer half a second late,
  or a connection closed once the request was carried out.
- `forget`: start the list of requests anew.

`GET /_control` returns {"requests": ["METHOD PATH", ...]}.
"""

import http.client
import json
import logging
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

from gcp_storage_emulator.server import create_server

_HANG_SECONDS, _SLOW_SECONDS = 60.0, 0.5
_DROPPED = ("connection", "keep-alive", "transfer-encoding", "content-length", "host")


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the server at `upstream`, a port of this machine."""

    daemon_threads = True

    def __init__(self, upstream: int):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.lock, self.writing = threading.Lock(), threading.Lock()
        self.fault: dict | None = None
        self.requests: list[str] = []

    def handle_error(self, request, client_address) -> None:
        """Say nothing of a client that was killed."""

    def fault_for(self, line: str) -> str | None:
        """Note a request and return what shall happen to it."""
        with self.lock:
            self.requests.append(line)
            fault = self.fault
            if not fault or not re.search(fault.get("pattern", ""), line) or fault.get("count") == 0:
                return None
            if fault.get("count"):
                fault["count"] -= 1
            return fault["kind"]

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict | None = None):
        """Return the status, headers and content of the server's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def generation(self, bucket: str, name: str) -> int:
        """Return the generation of an object, 0 if there is none."""
        status, _, content = self.ask("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}")
        return int(json.loads(content)["generation"]) if status == 200 else 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *arguments) -> None:
        pass

    def _handle(self) -> None:
        body = self._body()
        if self.path == "/_control":
            self._control(body)
            return
        kind = self.server.fault_for(f"{self.command} {self.path}")
        if kind == "error":
            self._answer(503, [], b'{"error": {"code": 503, "message": "Service Unavailable"}}')
            return
        if kind == "hang":
            time.sleep(_HANG_SECONDS)
            self.close_connection = True
            return
        if kind == "slow":
            time.sleep(_SLOW_SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _DROPPED}
        if self.command == "GET":
            answer = self.server.ask("GET", self.path, body, headers)
        else:
            with self.server.writing:
                answer = self._refusal(body) or self.server.ask(self.command, self.path, body, headers)
        if kind == "cut":
            self.close_connection = True
            return
        self._answer(*answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _refusal(self, body: bytes):
        """The answer if the condition of the request does not hold."""
        url = urlsplit(self.path)
        wanted = parse_qs(url.query).get("ifGenerationMatch")
        if not wanted:
            return None
        bucket, _, name = re.search(r"/b/([^/]+)/o(/(.+))?$", url.path).groups()
        if name is None:
            given = parse_qs(url.query).get("name")
            # An upload in two parts: its name is in the first one, JSON.
            name = given[0] if given else json.loads(re.search(rb"\{.*?\}\r?\n", body, re.DOTALL)[0])["name"]
        if self.server.generation(bucket, unquote(name)) == int(wanted[0]):
            return None
        return 412, [], b'{"error": {"code": 412, "message": "conditionNotMet"}}'

    def _control(self, body: bytes) -> None:
        with self.server.lock:
            if self.command == "POST":
                given = json.loads(body)
                if "fault" in given:
                    self.server.fault = given["fault"]
                if given.get("forget"):
                    self.server.requests.clear()
            content = json.dumps({"requests": self.server.requests}).encode()
        self._answer(200, [], content)

    def _answer(self, status: int, headers: list, content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in (*_DROPPED, "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle


def main() -> None:
    logging.disable(logging.CRITICAL)
    emulator = create_server("127.0.0.1", 0, in_memory=True, default_bucket=sys.argv[1])
    emulator.start()
    proxy = Proxy(emulator._api._httpd.server_address[1])
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{proxy.server_address[1]}", flush=True)
    sys.stdin.read()
    os._exit(0)  # the thread of the emulator would go on


if __name__ == "__main__":
    main()
