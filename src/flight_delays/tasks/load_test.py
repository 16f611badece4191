"""Put an endpoint under load with real rows, and judge how it did."""

import json
from collections.abc import Sequence

import pandas as pd
from pyspark.sql import functions as F
from rich.progress import Progress

from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import ENTITY, PREDICTION_TIME
from flight_delays.core.load_limits import broken
from flight_delays.core.settings import LoadTest
from flight_delays.platform.context import Context
from flight_delays.platform.load_generator import WAKE_S, drive
from flight_delays.tasks.printing import show

_ROWS = 500


def run(context: Context, settings: LoadTest) -> None:
    """Send the newest rows, one a request, and set requests_per_second and p99_ms.

    Requests leave the looked-up columns to the online store, if there is one. Raises UserError that names
    every limit that was not kept.
    """
    known = context.tables.read("features").where(F.col(PREDICTION_TIME) <= F.lit(context.as_of))
    newest = known.orderBy(F.desc(PREDICTION_TIME), ENTITY).limit(_ROWS).toPandas()
    bodies = request_bodies(newest, context.use_case.request if settings.online_store else context.use_case.inputs)
    if not bodies:
        raise UserError(
            f"{context.tables.schema}.features has no row as of {context.as_of:%Y-%m-%d}: run the features "
            "job with this as_of"
        )
    put_under_load(context, bodies, settings)


def put_under_load(context: Context, bodies: Sequence[bytes], settings: LoadTest) -> None:
    """Wake the endpoint, which may have scaled to zero, then measure and judge it."""
    endpoint, connections, seconds = settings.endpoint, settings.load_test_connections, settings.load_test_seconds
    console, (url, headers) = context.console, context.serving(endpoint).address(endpoint)
    first = drive(url, headers, bodies, connections, 0, timeout_s=WAKE_S)
    if first.errors:
        raise UserError(
            f"endpoint {endpoint} does not serve: {first.why}; see its events and logs, and run the train job "
            "if no version was released yet"
        )
    console.print(f"Sending {len(bodies):,} rows in turn over {connections} connections for {seconds} s ...")
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Sending", total=seconds)

        def on_progress(so_far: float, requests: int) -> None:
            progress.update(bar, completed=so_far, description=f"{requests:,} requests")

        measured = drive(url, headers, bodies, connections, seconds, on_progress)
    percentiles = [measured.percentile_ms(percent) for percent in (50, 95, 99)]
    show(
        console,
        f"{url}: {measured.requests:,} requests",
        ("requests/s", "p50 (ms)", "p95 (ms)", "p99 (ms)", "errors", "reasons"),
        [(measured.requests_per_second, *percentiles, measured.errors, measured.why)],
    )
    context.task_values.set("requests_per_second", f"{measured.requests_per_second:,.1f}")
    context.task_values.set("p99_ms", f"{measured.percentile_ms(99):,.1f}")
    if failed := broken(measured, settings.limits):
        why = f" ({measured.why})" if measured.errors else ""
        raise UserError(
            f"endpoint {endpoint} under load: {'; '.join(failed)}{why}; fix the service, raise serving_workload_size "
            "or move the limits in databricks.yml"
        )


def request_bodies(rows: pd.DataFrame, columns: Sequence[str]) -> list[bytes]:
    """A request for each row, in MLflow's protocol."""
    data = cells(rows, columns)
    return [json.dumps({"dataframe_split": {"columns": list(columns), "data": [row]}}).encode() for row in data]


def cells(rows: pd.DataFrame, columns: Sequence[str]) -> list[list[object]]:
    """Of each row the columns' values, as JSON takes them: times are ISO 8601 text, a missing value is null."""
    values = rows[list(columns)].astype(object).to_numpy()
    known = [[None if pd.isna(value) else value for value in row] for row in values]
    plain: list[list[object]] = json.loads(json.dumps(known, default=pd.Timestamp.isoformat))
    return plain
