"""A workspace with one synced table, as the SDK reaches it over HTTP."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

TABLE = "main.flights.features_online"
Answer = tuple[int, dict[str, object]]
FOUND: Answer = (200, {"name": TABLE, "data_synchronization_status": {"pipeline_id": "p1"}})
STARTED: Answer = (200, {"update_id": "u1"})


def state(now: str) -> Answer:
    """Of the update."""
    return 200, {"update": {"update_id": "u1", "state": now}}


def trouble(status: int, code: str, message: str) -> Answer:
    """As Databricks words it."""
    return status, {"error_code": code, "message": message}


@dataclass
class Workspace:
    """Gives the answers of each route one after the other, the last one again and again; `asked` are the requests."""

    name: str = TABLE
    table: list[Answer] = field(default_factory=lambda: [FOUND])
    start: list[Answer] = field(default_factory=lambda: [STARTED])
    update: list[Answer] = field(default_factory=lambda: [state("COMPLETED")])
    asked: list[str] = field(default_factory=list)

    def answer(self, request: str) -> Answer:
        """What is said to `<method> <path>`."""
        routes = {
            f"GET /api/2.0/database/synced_tables/{self.name}": self.table,
            "POST /api/2.0/pipelines/p1/updates": self.start,
            "GET /api/2.0/pipelines/p1/updates/u1": self.update,
        }
        self.asked.append(request)
        answers = routes.get(request, [trouble(404, "ENDPOINT_NOT_FOUND", f"no route {request}")])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def served(workspace: Workspace) -> Iterator[WorkspaceClient]:
    """A client of it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(workspace.answer)) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        try:
            # An empty profile: what a developer has set for a workspace stays out of it.
            yield WorkspaceClient(
                config=Config(host=host, token="any", auth_type="pat", profile="", retry_timeout_seconds=1)
            )
        finally:
            server.shutdown()


def _handler(answer: Callable[[str], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(f"{self.command} {self.path}")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
