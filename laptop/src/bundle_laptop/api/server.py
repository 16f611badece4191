"""Requests over HTTP on loopback: a thread and a connection per request, no dependency, up in milliseconds."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

from bundle_laptop.api.faults import Fault, Faults
from bundle_laptop.api.web import Answer, ApiError, Request, Router, invalid, json_answer
from bundle_laptop.errors import LaptopError

DISCOVERY = "/.well-known/databricks-config"
"""The SDK asks it before it has a token to show."""

_LOG = logging.getLogger(__name__)


@contextmanager
def listening(router: Router, faults: Faults, port: int = 0) -> Iterator[str]:
    """The address that is served, until the context ends; requests in flight are then answered.

    Raises LaptopError if the port is taken.
    """
    try:
        server = _Server(port, router, faults)
    except OSError as error:
        raise LaptopError(f"port {port} of 127.0.0.1 cannot be had: {error.strerror}; give another") from error
    thread = Thread(target=server.serve_forever, args=(0.02,), name="workspace-api", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()  # waits for its threads
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 256

    def __init__(self, port: int, router: Router, faults: Faults) -> None:
        self.router, self.faults, self.stopping = router, faults, Event()
        super().__init__(("127.0.0.1", port), _Connection)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would ask for the host's name, which can take seconds
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (as socketserver has it)
        if not isinstance(sys.exception(), OSError):  # a client that is gone
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # for a client that connects and sends nothing
    wbufsize = -1  # an answer goes out in one piece

    def log_message(self, *_: object) -> None:
        """Nothing: faults.requests has it."""

    def _serve(self) -> None:
        self.close_connection = True
        path, fault = unquote(self.path.partition("?")[0]), None
        answer: Answer | None = None
        try:
            content = self._content()
            fault = None if path == DISCOVERY else self.server.faults.take(self.command, path)
            if not self._is_cut_before(fault):
                answer = (fault and fault.refusal()) or self._answer(path, content)
        except ApiError as error:
            answer = error.answer()
        cut = fault is not None and fault.action == "cut"
        self.server.faults.log(self.command, path, None if cut or answer is None else answer.status)
        if answer and not cut:
            self._send(answer, answer.body)
        elif answer and fault and fault.sent:
            self._send(answer, answer.body[:-1][: fault.sent])

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _is_cut_before(self, fault: Fault | None) -> bool:
        """Whether the fault closes the connection before anything is done; one that hangs is waited out."""
        if fault and fault.action == "hang":
            return self.server.stopping.wait(fault.seconds)
        return fault is not None and fault.action == "cut_before"

    def _answer(self, path: str, content: bytes) -> Answer:
        try:
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            if path != DISCOVERY and not (scheme.lower() == "bearer" and token.strip()):
                raise ApiError(401, "UNAUTHENTICATED", "no bearer token; any will do")
            handler, parameters = self.server.router.find(self.command, path)
            query = dict(parse_qsl(self.path.partition("?")[2], keep_blank_values=True))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = handler(Request(query=query, headers=headers, content=content, parameters=parameters))
        except ApiError as error:
            return error.answer()
        except LaptopError as error:
            return invalid(str(error)).answer()
        except Exception as error:
            _LOG.exception("%s %s failed", self.command, path)
            what = f"{type(error).__name__}: {error}"
            return ApiError(500, "INTERNAL_ERROR", f"the laptop's workspace API failed: {what}").answer()
        return answer if isinstance(answer, Answer) else json_answer(answer)

    def _content(self) -> bytes:
        """The whole body. Raises ApiError for one that has no end."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(self.headers.get("Content-Length") or "0", 10)
        parts = []
        while part := self._read(self.rfile.readline(100).decode("latin-1").partition(";")[0], 16):
            parts.append(part)
            self.rfile.readline(100)
        while self.rfile.readline(10_000).strip():
            pass
        return b"".join(parts)

    def _read(self, length: str, base: int) -> bytes:
        try:
            size = int(length, base)
        except ValueError:
            raise invalid(f"the length of the body is {length!r}") from None
        content = self.rfile.read(size)
        if len(content) < size:
            raise invalid("the connection was closed before the body was whole")
        return content

    def _send(self, answer: Answer, body: bytes) -> None:
        self.send_response_only(answer.status)
        for name, value in {"x-request-id": uuid4().hex, "Connection": "close", **answer.headers}.items():
            self.send_header(name, value)
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
