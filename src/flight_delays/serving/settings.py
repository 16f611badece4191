"""What the environment says about the service."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flight_delays.core.errors import UserError

ENDPOINT = "FLIGHT_DELAYS_SERVING_ENDPOINT"
SERVED = "FLIGHT_DELAYS_SERVED"
TOKEN_FILE = "FLIGHT_DELAYS_SERVING_TOKEN_FILE"  # noqa: S105  # names the file
AUTH = "FLIGHT_DELAYS_SERVING_AUTH"
PAYLOAD_TABLE = "FLIGHT_DELAYS_PAYLOAD_TABLE"
HOST = "FLIGHT_DELAYS_SERVING_HOST"
PORT = "FLIGHT_DELAYS_SERVING_PORT"
MAX_ROWS = "FLIGHT_DELAYS_SERVING_MAX_ROWS"
MAX_BODY_BYTES = "FLIGHT_DELAYS_SERVING_MAX_BODY_BYTES"
MAX_CONCURRENCY = "FLIGHT_DELAYS_SERVING_MAX_CONCURRENCY"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`tokens` are the accepted bearer tokens, None where nobody has to have one; `payload_table` the path or address
    of the Delta table that requests go to, if any. One request more than `max_concurrency` at once is refused.
    """  # fmt: skip

    endpoint: str = "delay"
    tokens: frozenset[str] | None
    payload_table: str | None = None
    host: str = "0.0.0.0"  # noqa: S104  # a container's only way to be reached
    port: int = 8080
    max_rows: int = 1000
    max_body_bytes: int = 1024 * 1024
    max_concurrency: int = 64


@dataclass(frozen=True, kw_only=True)
class Source:
    """A version to serve: its name on the endpoint, its address (a folder or models:/<name>/<number>), its share."""

    name: str
    address: str
    percentage: int


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises UserError for what is missing or makes no sense."""
    auth = environment.get(AUTH, "on")
    if auth not in ("on", "off"):
        raise UserError(f"{AUTH} is {auth!r}; set it to on or off")
    return Settings(
        endpoint=environment.get(ENDPOINT, Settings.endpoint),
        tokens=_tokens(environment) if auth == "on" else None,
        payload_table=environment.get(PAYLOAD_TABLE) or None,
        host=environment.get(HOST, Settings.host),
        port=_whole(environment, PORT, Settings.port),
        max_rows=_whole(environment, MAX_ROWS, Settings.max_rows),
        max_body_bytes=_whole(environment, MAX_BODY_BYTES, Settings.max_body_bytes),
        max_concurrency=_whole(environment, MAX_CONCURRENCY, Settings.max_concurrency),
    )


def sources(environment: Mapping[str, str] = os.environ) -> tuple[Source, ...]:
    """The versions of FLIGHT_DELAYS_SERVED: champion=<address>, or name=<address>@<percentage> of each, with commas."""
    text = environment.get(SERVED, "")
    found = []
    for part in filter(None, text.split(",")):
        name, equals, rest = part.partition("=")
        address, at, percentage = rest.rpartition("@") if "@" in rest else (rest, "@", "100")
        if not (name and equals and address and at and percentage.isascii() and percentage.isdigit()):
            raise UserError(f"{SERVED}: {part!r} is not name=address@percentage, like champion=models:/delay/3@100")
        found.append(Source(name=name, address=address, percentage=int(percentage)))
    if not found:
        raise UserError(f"{SERVED} names no version; set it to champion=<a model's folder, or models:/<name>/<number>>")
    return tuple(found)


def _tokens(environment: Mapping[str, str]) -> frozenset[str]:
    file = environment.get(TOKEN_FILE)
    if not file:
        raise UserError(f"{TOKEN_FILE} names no file of bearer tokens, one a line; or set {AUTH}=off behind a gateway")
    try:
        tokens = frozenset(Path(file).read_text(encoding="utf-8").split())
    except OSError as error:
        raise UserError(f"{TOKEN_FILE}: {file} cannot be read: {error.strerror}") from None
    if not tokens:
        raise UserError(f"{TOKEN_FILE}: {file} is empty; write a bearer token into it")
    return tokens


def _whole(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    text = environment.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit() and int(text)):
        raise UserError(f"{name} is {text!r}; set it to a whole number above 0")
    return int(text)
