"""The Files API of a workspace, as databricks-sdk asks it over HTTP; its volumes are in a folder of this machine.

As https://docs.databricks.com/api/workspace/files says. Listings come in pages of two, and downloads by signed URLs
(`signs_urls`), which not every workspace gives.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import databricks
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

from flight_delays.platform.runtime import LOCAL_DIR

TOKEN = "any"  # noqa: S105
_FILES, _DIRECTORIES, _SIGNED = "/api/2.0/fs/files", "/api/2.0/fs/directories", "/signed"
_PAGE = 2


@dataclass(kw_only=True, eq=False)
class RefusedError(Exception):
    status: int
    code: str
    message: str
    reason: str = ""


@dataclass(kw_only=True)
class FilesApi:
    """`root` stands for `/`; paths in `forbidden` are another's; `asked` are the requests, in their order."""

    root: Path
    signs_urls: bool = True
    has_empty_folders: bool = True
    forbidden: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, url: str, token: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        address = urlsplit(url)
        path, query = unquote(address.path), {name: values[-1] for name, values in parse_qs(address.query).items()}
        self.asked.append(f"{method} {path}")
        if path == "/.well-known/databricks-config":  # asked before there is a token to show
            return _json({"oidc_endpoint": ""})
        if path.startswith(_SIGNED):  # carries its own permission
            return 200, "application/octet-stream", self._at(path.removeprefix(_SIGNED)).read_bytes()
        if token != f"Bearer {TOKEN}":
            raise RefusedError(
                status=401, code="UNAUTHENTICATED", message="Credential was not sent or was not understood."
            )
        if path == "/api/2.0/fs/create-download-url" and method == "POST":
            return self._sign(query["path"])
        if path.startswith(f"{_FILES}/"):
            return self._file(method, path.removeprefix(_FILES), query, body)
        if path.startswith(f"{_DIRECTORIES}/"):
            return self._directory(method, path.removeprefix(_DIRECTORIES), query)
        raise RefusedError(status=404, code="ENDPOINT_NOT_FOUND", message=f"No API found for '{method} {path}'")

    def _at(self, path: str) -> Path:
        if any(path.startswith(other) for other in self.forbidden):
            raise RefusedError(
                status=403, code="PERMISSION_DENIED", message=f"User does not have WRITE VOLUME on Volume\n'{path}'."
            )
        return self.root / path.lstrip("/")

    def _sign(self, path: str) -> tuple[int, str, bytes]:
        if not self.signs_urls:
            raise RefusedError(status=403, code="PERMISSION_DENIED", message="Presigned URLs are disabled.")
        self._existing_file(path)
        return _json({"url": f"{{host}}{_SIGNED}{path}", "headers": []})

    def _existing_file(self, path: str) -> Path:
        if not (there := self._at(path)).is_file():
            raise RefusedError(status=404, code="NOT_FOUND", message=f"The file being accessed is not found: {path}")
        return there

    def _file(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        there = self._at(path)
        match method:
            case "PUT":
                if there.exists() and query.get("overwrite", "true") == "false":
                    raise RefusedError(status=409, code="ALREADY_EXISTS", message=f"The file already exists: {path}")
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(body)
                return _nothing()
            case "DELETE":
                self._existing_file(path).unlink()
                if not self.has_empty_folders and not any(there.parent.iterdir()):
                    there.parent.rmdir()
                return _nothing()
            case _:
                return 200, "application/octet-stream", self._existing_file(path).read_bytes()

    def _directory(self, method: str, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
        there = self._at(path)
        if method != "PUT" and not there.is_dir():
            raise RefusedError(
                status=404, code="NOT_FOUND", message=f"The directory being accessed is not found: {path}"
            )
        match method:
            case "PUT":
                there.mkdir(parents=True, exist_ok=True)
                return _nothing()
            case "DELETE" if any(there.iterdir()):
                reason = "FILES_API_DIRECTORY_IS_NOT_EMPTY"
                message = f"The directory being deleted is not empty: {path}"
                raise RefusedError(status=400, code="INVALID_PARAMETER_VALUE", message=message, reason=reason)
            case "DELETE":
                there.rmdir()
                return _nothing()
            case "HEAD":
                return 200, "application/octet-stream", b""
            case _:
                first = int(query.get("page_token", "0"))
                entries = sorted(there.iterdir())
                page = [{"path": f"{path}/{entry.name}", "name": entry.name, "is_directory": entry.is_dir()}
                        | ({} if entry.is_dir() else {"file_size": entry.stat().st_size})
                        for entry in entries[first : first + _PAGE]]  # fmt: skip
                more = {"next_page_token": str(first + _PAGE)} if first + _PAGE < len(entries) else {}
                return _json({"contents": page, **more})


def _json(body: dict[str, object]) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps(body).encode()


def _nothing() -> tuple[int, str, bytes]:
    return 204, "application/octet-stream", b""


@contextmanager
def served(api: FilesApi) -> Iterator[str]:
    """Its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(api)) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def client(address: str, token: str = TOKEN) -> WorkspaceClient:
    # An empty profile: what a developer has set for a workspace stays out of it.
    config = Config(host=address, token=token, auth_type="pat", profile="", retry_timeout_seconds=1)
    return WorkspaceClient(config=config)


def connect(monkeypatch: pytest.MonkeyPatch, folder: Path, address: str | None) -> None:
    """Make this process one with Databricks Connect, signed in to a workspace or to none; `folder` is for its own use.

    The real one cannot be installed beside local Spark; this one is only looked for.
    """
    (folder / "packages").mkdir()
    (folder / "packages/connect.py").touch()
    monkeypatch.setattr(databricks, "__path__", [*databricks.__path__, str(folder / "packages")])
    for name in [name for name in os.environ if name.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv(LOCAL_DIR, raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(folder / "none"))
    if address:
        monkeypatch.setenv("DATABRICKS_HOST", address)
        monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)


def _handler(api: FilesApi) -> type[BaseHTTPRequestHandler]:
    one_by_one = Lock()  # what is deleted at the same time is the same folder's

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                with one_by_one:
                    token = self.headers.get("Authorization", "")
                    status, kind, said = api.answer(self.command, self.path, token, body)
            except RefusedError as error:
                info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.reason}
                details = [info] if error.reason else []
                _, kind, said = _json({"error_code": error.code, "message": error.message, "details": details})
                status = error.status
            said = said.replace(b"{host}", f"http://{self.headers['Host']}".encode())
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            self.send_header("Last-Modified", "Tue, 01 Jan 2013 12:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)

        do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
