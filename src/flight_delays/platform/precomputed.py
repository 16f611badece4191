"""What is looked up by entity in the online store: predictions that were made beforehand, and columns to ask with."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from flight_delays.core.errors import UserError
from flight_delays.core.prediction import Prediction
from flight_delays.platform.online_table import ONLINE_TABLE, OnlineStore, online_store

PREDICTIONS_TABLE = "predictions_online"
NO_TABLE = f"nothing is precomputed yet: the online store has no table {PREDICTIONS_TABLE}; run the job score_batch"
NOT_FOUND = "there is no precomputed prediction of this id; table predictions has those that there are"


COLUMNS = tuple(field.name for field in fields(Prediction))


def predictions_store(environment: Mapping[str, str]) -> OnlineStore | None:
    """The store that `environment` names, if any, to find predictions in. Raises UserError for a wrong setting."""
    try:
        return online_store(environment, table=PREDICTIONS_TABLE, columns=COLUMNS[1:])
    except ValueError as error:
        raise UserError(str(error)) from None


async def find_prediction(store: OnlineStore, entity_id: str) -> Prediction | None:
    """The newest prediction of an entity, None if there is none; `store` is one that predictions_store made.

    Raises NoTableError where nothing was ever precomputed, and ConnectionError for a store that fails.
    """
    row = (await store.find([entity_id])).get(entity_id)
    if row is None:
        return None
    found: dict[str, Any] = dict(zip(COLUMNS, (entity_id, *row), strict=True))
    return Prediction(**found | {name: _time(found[name]) for name in ("prediction_ts", "scored_at")})


def _time(value: str | datetime) -> datetime:
    """As sqlite or PostgreSQL has it; UTC where it names no offset."""
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def request_columns(address: str, columns: Sequence[str], entity_id: str | None) -> dict[str, object] | None:
    """The columns of an entity's request; without an id, of the one asked for last. None if there is none.

    Raises UserError for a store that does not answer, or has no features.
    """
    is_file = address.startswith("sqlite:///")
    where = f"WHERE entity_id = {'?' if is_file else '%s'}" if entity_id else "ORDER BY prediction_ts DESC, entity_id"
    query = f"SELECT {', '.join(columns)} FROM {ONLINE_TABLE} {where} LIMIT 1"
    try:
        OnlineStore(address, 10, table=ONLINE_TABLE, columns=columns)  # refuses what is no address
        with closing(_opened(address, is_file=is_file)) as store:
            row = store.execute(query, (entity_id,) if entity_id else ()).fetchone()
    except ValueError as error:
        raise UserError(str(error)) from None
    except (sqlite3.Error, psycopg.Error) as error:
        why = type(error).__name__  # its words may hold a password
        raise UserError(f"the online store has no features to ask with ({why}); run the features job") from None
    if row is None:
        return None
    told = [_time(value).replace(tzinfo=None).isoformat() if isinstance(value, datetime) else value for value in row]
    return dict(zip(columns, told, strict=True))


def _opened(address: str, *, is_file: bool) -> "sqlite3.Connection | psycopg.Connection[tuple[Any, ...]]":
    if is_file:
        return sqlite3.connect(f"{Path(address.removeprefix('sqlite:///')).as_uri()}?mode=ro", uri=True)
    return psycopg.connect(address, connect_timeout=10)
