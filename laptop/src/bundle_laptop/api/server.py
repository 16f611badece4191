"""Requests over HTTP on loopback: a thread per connection, no dependency, up in milliseconds."""

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from tempfile import SpooledTemporaryFile
from threading import Condition, Event, Thread
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

from bundle_laptop.api.faults import Fault, Faults
from bundle_laptop.api.web import Answer, ApiError, Request, Router, invalid, json_answer
from bundle_laptop.errors import LaptopError

DISCOVERY = "/.well-known/databricks-config"
"""The SDK asks it before it has a token to show."""

_IN_MEMORY = 16 * 1024 * 1024  # a longer body waits in a file
_LAST_REQUESTS_S = 60
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
        server.server_close()
        server.end_connections()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, router: Router, faults: Faults) -> None:
        self.router, self.faults, self.stopping = router, faults, Event()
        self._connections: set[socket.socket] = set()
        self._changed = Condition()
        super().__init__(("127.0.0.1", port), _Connection)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would ask for the host's name, which can take seconds
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (as socketserver has it)
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        if not isinstance(sys.exception(), OSError):  # a client that is gone
            super().handle_error(request, client_address)

    def end_connections(self) -> None:
        """No more requests are read; those that were are answered."""
        with self._changed:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    continue  # closed by the other side
            self._changed.wait_for(lambda: not self._connections, _LAST_REQUESTS_S)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nothing: faults.requests has it."""

    def _serve(self) -> None:
        server = cast(_Server, self.server)
        path = self.path.partition("?")[0]
        try:
            with self._content() as content:
                size = content.seek(0, 2)
                content.seek(0)
                fault = None
                if path != DISCOVERY and not path.startswith("/laptop/"):
                    fault = server.faults.take(self.command, unquote(path))
                answer = self._refused(fault, server.stopping) or self._answer(path, content, size)
        except ApiError as error:  # what follows on this connection can't be told apart from the rest of the body
            self.close_connection, fault, answer = True, None, error.answer()
        except ConnectionAbortedError:
            self.close_connection = True
            server.faults.log(self.command, unquote(path), None)
            return
        cut = fault if fault and fault.action == "cut" else None
        server.faults.log(self.command, unquote(path), None if cut else answer.status)
        if cut:
            self.close_connection = True
            if cut.sent and answer.body:
                self.wfile.write(self._head(answer) + answer.body[:-1][: cut.sent])
        else:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _refused(self, fault: Fault | None, stopping: Event) -> Answer | None:
        """The fault's answer, if it is one; raises ConnectionAbortedError where it is to close the connection."""
        if fault is None:
            return None
        if fault.action == "cut_before" or (fault.action == "hang" and stopping.wait(fault.seconds)):
            raise ConnectionAbortedError
        return fault.refusal()

    def _answer(self, path: str, content: BinaryIO, size: int) -> Answer:
        server = cast(_Server, self.server)
        try:
            if path != DISCOVERY and not _has_token(self.headers.get("Authorization", "")):
                raise ApiError(401, "UNAUTHENTICATED", "no bearer token; any will do")
            handler, parameters = server.router.find(self.command, path)
            answer = handler(
                Request(
                    method=self.command,
                    path=unquote(path),
                    query=dict(parse_qsl(self.path.partition("?")[2], keep_blank_values=True)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    content=content,
                    size=size,
                    parameters=parameters,
                )
            )
        except ApiError as error:
            return error.answer()
        except LaptopError as error:
            return invalid(str(error)).answer()
        except Exception as error:
            _LOG.exception("%s %s failed", self.command, path)
            what = f"{type(error).__name__}: {error}"
            return ApiError(500, "INTERNAL_ERROR", f"the laptop's workspace API failed: {what}").answer()
        return answer if isinstance(answer, Answer) else json_answer(answer)

    def _content(self) -> BinaryIO:
        """The whole body. Raises ApiError for one that has no end."""
        content = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (its reader closes it)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := self._number(self.rfile.readline(100).partition(b";")[0], 16):
                self._copy(content, size)
                self.rfile.readline(100)
            while self.rfile.readline(10_000).strip():
                pass
        else:
            self._copy(content, self._number((self.headers.get("Content-Length") or "0").encode(), 10))
        return cast(BinaryIO, content)

    def _copy(self, to: Any, size: int) -> None:  # noqa: ANN401 (SpooledTemporaryFile is no BinaryIO to mypy)
        while size and (part := self.rfile.read(min(size, 1 << 20))):
            size -= to.write(part)
        if size:
            raise invalid("the connection was closed before the body was whole")

    def _number(self, text: bytes, base: int) -> int:
        try:
            return int(text.strip(), base)
        except ValueError:
            raise invalid(f"the length of the body is {text.decode(errors='replace')!r}") from None

    def _head(self, answer: Answer) -> bytes:
        headers = {"x-request-id": uuid4().hex, **answer.headers}
        if answer.status != HTTPStatus.NO_CONTENT:
            headers.setdefault("Content-Length", str(answer.size if answer.file else len(answer.body)))
        if self.close_connection:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _send(self, answer: Answer) -> None:
        if cast(_Server, self.server).stopping.is_set():
            self.close_connection = True
        body = b"" if self.command == "HEAD" else answer.body
        self.wfile.write(self._head(answer) + body)
        if answer.file and self.command != "HEAD":
            with answer.file.open("rb") as file:
                file.seek(answer.start)
                left = answer.size
                while left and (part := file.read(min(left, 1 << 20))):
                    left -= len(part)
                    self.wfile.write(part)
            self.close_connection |= left > 0  # it has become shorter meanwhile


def _has_token(given: str) -> bool:
    scheme, _, token = given.partition(" ")
    return scheme.lower() == "bearer" and bool(token.strip())
