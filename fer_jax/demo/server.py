"""The demo's server, by the standard library: one page, and the two questions that it asks in JSON.

`POST /faces?faces=auto` and `POST /explanation?box=L,T,R,B&class=NAME` take a picture's file as the body. Nothing is
kept, and nothing is fetched from anywhere else. A page of another site that this machine's browser shows cannot ask:
its `Origin`, or the `Host` by which it found the server, gives it away.
"""

import errno
import ipaddress
import json
import socket
import socketserver
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from fer_jax.demo.judge import Judge
from fer_jax.errors import InputError
from fer_jax.evaluation.page.templates import environment

MOST_BYTES = 32 * 2**20
"""Of a picture's file."""

_AT_ONCE = 4  # Pictures that are read or judged; each may take some hundred megabytes.
_SILENCE = 30  # Seconds without a byte after which a connection is closed.
_CHUNK = 2**16

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DemoServer(ThreadingHTTPServer):
    """Serves the demo of `judge` at `host` and `port` (0: any that is free) by `serve_forever`; `url` says where.

    `model` is what the page calls the model; `faces` is chosen on the page at first, one of the choices of `judge`.

    Raises:
      InputError: the address cannot be had.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, judge: Judge, model: str, *, faces: str):
        self.judge = judge
        self.page = _page(judge, model, faces).encode()
        self.at_once = threading.BoundedSemaphore(_AT_ONCE)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            wrong = "host" if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL else "port"
            advice = f"choose another --{wrong}"
            if error.errno == errno.EADDRINUSE:
                advice = f"is another demo running? {advice.capitalize()}"
            raise InputError(f"{host}:{port}: cannot be listened at ({error.strerror or error}); {advice}") from error
        self.is_loopback = ipaddress.ip_address(str(self.server_address[0])).is_loopback
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name, which may take long."""
        socketserver.TCPServer.server_bind(self)


class _Refusal(Exception):
    """A request that is refused with `status`, without its body being read."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    server_version, sys_version = "fer_jax", ""
    timeout = _SILENCE

    def do_GET(self) -> None:
        try:
            self._check_caller()
            if urlsplit(self.path).path != "/":
                raise _Refusal(HTTPStatus.NOT_FOUND, "there is only the page at /")
        except _Refusal as refusal:
            self._reply_json(refusal.status, {"error": str(refusal)})
            return
        self._reply(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)

    def do_POST(self) -> None:
        try:
            status, found = HTTPStatus.OK, self._answer()
        except _Refusal as refusal:
            self._discard_body()
            status, found = refusal.status, {"error": str(refusal)}
        except InputError as error:
            status, found = HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except OSError:
            return  # The browser has gone, or says nothing more.
        except Exception:
            # A bug: its traceback goes to the terminal.
            self._reply_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the server failed; its terminal says why"})
            raise
        self._reply_json(status, found)

    def _answer(self) -> dict:
        self._check_caller()
        parts = urlsplit(self.path)
        question = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        judge = self.server.judge
        if parts.path == "/faces":
            return self._judged(lambda content: judge.faces_in(content, question.get("faces", judge.choices[0])))
        if parts.path == "/explanation":
            box, name = question.get("box", ""), question.get("class", "")
            return self._judged(lambda content: judge.explanation(content, box, name))
        raise _Refusal(HTTPStatus.NOT_FOUND, "expected POST /faces or POST /explanation")

    def _judged(self, question) -> dict:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _Refusal(HTTPStatus.LENGTH_REQUIRED, "expected the bytes of a picture, and their number")
        if int(length) > MOST_BYTES:
            most = f"expected at most {MOST_BYTES / 2**20:.0f} MiB"
            raise _Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the picture's file has {int(length) / 2**20:,.0f} MiB, {most}"
            )
        if not self.server.at_once.acquire(blocking=False):
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many pictures at once; send it again in a moment")
        try:
            content = self.rfile.read(int(length))
            if len(content) < int(length):
                raise ConnectionResetError
            return question(content)
        finally:
            self.server.at_once.release()

    def _check_caller(self) -> None:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            same = origin is None or urlsplit(origin).netloc == host
        except ValueError:  # no address at all
            name, same = "", False
        if (self.server.is_loopback and not _is_this_machine(name)) or not same:
            raise _Refusal(HTTPStatus.FORBIDDEN, f"only the page of this server may ask; open {self.server.url}")

    def _discard_body(self) -> None:
        """Read on, so that the browser, which sends all of a body first, hears the answer."""
        length = self.headers.get("Content-Length", "")
        left = min(int(length), 8 * MOST_BYTES) if length.isascii() and length.isdigit() else 0
        try:
            while left > 0 and (chunk := self.rfile.read(min(left, _CHUNK))):
                left -= len(chunk)
        except OSError:
            pass

    def _reply_json(self, status: HTTPStatus, found: dict) -> None:
        self._reply(status, "application/json", json.dumps(found).encode())

    def _reply(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        try:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # The browser has gone.

    def log_message(self, format: str, *args) -> None:
        """Say nothing of requests."""


def _is_this_machine(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _page(judge: Judge, model: str, faces: str) -> str:
    about = {"names": judge.class_names, "explains": judge.explains, "mostBytes": MOST_BYTES}
    template = environment("fer_jax.demo").get_template("page.html.j2")
    return template.render(model=model, choices=judge.choices, chosen=faces, about=about)
