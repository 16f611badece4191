"""What the environment says about the service."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flight_delays.core.errors import UserError
from flight_delays.core.traffic import NAMES

ENDPOINT = "FLIGHT_DELAYS_SERVING_ENDPOINT"
SERVED = "FLIGHT_DELAYS_SERVED"
TOKEN_FILE = "FLIGHT_DELAYS_SERVING_TOKEN_FILE"  # noqa: S105  # names the file
AUTH = "FLIGHT_DELAYS_SERVING_AUTH"
PAYLOAD_TABLE = "FLIGHT_DELAYS_PAYLOAD_TABLE"
HOST = "FLIGHT_DELAYS_SERVING_HOST"
PORT = "FLIGHT_DELAYS_SERVING_PORT"
FUNCTIONS_PORT = "FUNCTIONS_CUSTOMHANDLER_PORT"  # what the host of Azure Functions names it, another at each start
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
    port = FUNCTIONS_PORT if PORT not in environment and FUNCTIONS_PORT in environment else PORT
    return Settings(
        endpoint=environment.get(ENDPOINT, Settings.endpoint),
        tokens=_tokens(environment) if auth == "on" else None,
        payload_table=environment.get(PAYLOAD_TABLE) or None,
        host=environment.get(HOST, Settings.host),
        port=_whole(environment, port, Settings.port, most=65535),
        max_rows=_whole(environment, MAX_ROWS, Settings.max_rows),
        max_body_bytes=_whole(environment, MAX_BODY_BYTES, Settings.max_body_bytes),
        max_concurrency=_whole(environment, MAX_CONCURRENCY, Settings.max_concurrency),
    )


def sources(environment: Mapping[str, str] = os.environ) -> tuple[Source, ...]:
    """The versions of FLIGHT_DELAYS_SERVED: champion=<address>, or name=<address>@<percentage> of each, with commas."""
    text = environment.get(SERVED, "")
    found: list[Source] = []
    for part in filter(None, text.split(",")):
        name, equals, rest = part.partition("=")
        address, at, percentage = rest.rpartition("@") if "@" in rest else (rest, "@", "100")
        if not (name and equals and address and at and _is_whole(percentage, 0, 100)):
            raise UserError(f"{SERVED}: {part!r} is not name=address@percentage, like champion=models:/delay/3@100")
        if name not in NAMES:
            raise UserError(f"{SERVED}: {name!r} is served under no known name; there are {' and '.join(NAMES)}")
        if name in {source.name for source in found}:
            raise UserError(f"{SERVED}: {name} is named twice")
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
    except UnicodeDecodeError:
        raise UserError(f"{TOKEN_FILE}: {file} cannot be read: it is no UTF-8 text") from None
    if not tokens:
        raise UserError(f"{TOKEN_FILE}: {file} is empty; write a bearer token into it")
    return tokens


def _whole(environment: Mapping[str, str], name: str, otherwise: int, *, most: int = 1_000_000_000) -> int:
    text = environment.get(name, str(otherwise))
    if not _is_whole(text, 1, most):
        raise UserError(f"{name} is {text!r}; set it to a whole number from 1 to {most}")
    return int(text)


def _is_whole(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most
