"""`flight-delays <task> ...`: the same command in a job and by hand."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flight_delays.core.errors import UserError
from flight_delays.core.moments import time_text

if TYPE_CHECKING:
    from datetime import date

    from flight_delays.core.use_case import UseCase
    from flight_delays.platform.context import Adapters, Context

app = typer.Typer(
    help="A model from raw tables to predictions, one subcommand per job task.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
USE_CASE = "FLIGHT_DELAYS_USE_CASE"  # names a module other than the one of this package
_INTERRUPTED = 130  # what typer makes of Ctrl-C

stream_app = typer.Typer(help="The stream that scores what comes in.", no_args_is_help=True)
app.add_typer(stream_app, name="stream")

Schema = Annotated[str, typer.Option(help="Schema to write to: <catalog>.<schema>.")]
RawSchema = Annotated[str, typer.Option(help="Schema to read raw tables from: <catalog>.<schema>.")]
AsOf = Annotated[
    str, typer.Option(help="What counts as now: an ISO 8601 time, UTC where it names no offset.", parser=time_text)
]
ModelName = Annotated[str, typer.Option(help="Registered model.")]
ModelVersion = Annotated[int, typer.Option(min=1, help="Version number.")]
Endpoint = Annotated[str, typer.Option(help="Serving endpoint.")]
Truth = Literal["true", "false"]  # as a bundle writes a boolean
STORE = "FLIGHT_DELAYS_ONLINE_STORE"
StoreAddress = Annotated[str | None, typer.Option(help="Address of the online store.", envvar=STORE)]
OnlineStore = Annotated[Truth, typer.Option(help="Whether there is an online store.")]
Checkpoint = Annotated[str, typer.Option(help="Folder in which Spark keeps how far the stream has got.")]
MaxLag = Annotated[float, typer.Option(min=0, help="The longest that an event may wait, seconds.")]
HoldoutDays = Annotated[int, typer.Option(min=1, help="Last whole days before as_of; never trained on.")]


@app.callback()
def root(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Option(help="Take options that are not given from this target's jobs; asks the Databricks CLI."),
    ] = None,
) -> None:
    """Options that hold for every task."""
    if target is not None:
        from flight_delays.platform.target import options_of

        options = options_of(target)
        stream = options.get("score-stream", {})
        context.default_map = {**options, "stream": dict.fromkeys(("start", "status", "stop", "reset"), stream)}


@app.command()
def tables(schema: Schema) -> None:
    """Create the tables and views that do not exist yet."""
    from flight_delays.tasks import tables

    tables.run(_adapters(schema))


@app.command()
def ingest(schema: Schema, as_of: AsOf) -> None:
    """Land raw tables from the sources; malformed rows go to raw_rejects."""
    from flight_delays.tasks import ingest

    ingest.run(_context(schema, as_of))


@app.command()
def features(schema: Schema, raw_schema: RawSchema, as_of: AsOf) -> None:
    """Build features from what was known at each prediction time."""
    from flight_delays.tasks import features

    context = _context(schema, as_of)
    features.run(context, context.tables.of(raw_schema))


@app.command()
def labels(schema: Schema, raw_schema: RawSchema, as_of: AsOf) -> None:
    """Collect labels: the outcomes that are known."""
    from flight_delays.tasks import labels

    context = _context(schema, as_of)
    labels.run(context, context.tables.of(raw_schema))


@app.command()
def publish(schema: Schema, online_store: OnlineStore, as_of: AsOf) -> None:
    """Bring features to the online store, if there is one. Sets published."""
    from flight_delays.tasks import publish

    publish.run(_context(schema, as_of), online_store=online_store == "true")


@app.command()
def train(
    schema: Schema,
    model_name: ModelName,
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")],
    holdout_days: HoldoutDays,
    trials: Annotated[int, typer.Option(min=1, help="Settings that the search tries; the first is the hand-chosen.")],
    git_commit: Annotated[str, typer.Option(help="Commit that was deployed.")],
    as_of: AsOf,
) -> None:
    """Fit a model and register it. Sets model_name and model_version."""
    from flight_delays.tasks import train

    train.run(
        _context(schema, as_of),
        model_name=model_name,
        experiment=experiment,
        holdout_days=holdout_days,
        trials=trials,
        git_commit=git_commit,
    )


@app.command()
def validate(
    schema: Schema,
    model_name: ModelName,
    model_version: ModelVersion,
    holdout_days: HoldoutDays,
    min_holdout_days: Annotated[int, typer.Option(min=1, help="With fewer unseen days: INCONCLUSIVE.")],
    loss_margin: Annotated[float, typer.Option(min=0, help="How much worse than the champion may pass.")],
    max_calibration_error: Annotated[float, typer.Option(min=0, help="The largest that may pass.")],
    calibration_margin: Annotated[float, typer.Option(min=0, help="How much above the champion's it may be.")],
    slice_margin: Annotated[float, typer.Option(min=0, help="How much worse one slice may be.")],
    max_latency_ms: Annotated[float, typer.Option(help="The longest that one request may take.")],
    max_size_mb: Annotated[float, typer.Option(help="The most that the model's files may take.")],
    as_of: AsOf,
) -> None:
    """Judge a version on days nobody trained on. Sets verdict and verdict_id."""
    from flight_delays.core.gates import Policy
    from flight_delays.tasks import validate

    policy = Policy(
        min_holdout_days=min_holdout_days,
        loss_margin=loss_margin,
        max_calibration_error=max_calibration_error,
        calibration_margin=calibration_margin,
        slice_margin=slice_margin,
        max_latency_ms=max_latency_ms,
        max_size_mb=max_size_mb,
    )
    validate.run(
        _context(schema, as_of),
        model_name=model_name,
        model_version=model_version,
        holdout_days=holdout_days,
        policy=policy,
    )


@app.command()
def deploy(
    schema: Schema,
    model_name: ModelName,
    model_version: ModelVersion,
    verdict_id: Annotated[str, typer.Option(help="Verdict that allows it.")],
    endpoint: Endpoint,
    workload_size: Annotated[str, typer.Option(help="Small, Medium or Large.")],
    scale_to_zero: Annotated[Truth, typer.Option(help="Whether it may stop while nobody asks.")],
    secret_scope: Annotated[str, typer.Option(help="Where the online store's address is kept.")],
    online_store: OnlineStore,
    as_of: AsOf,
) -> None:
    """Make a version the champion, and the endpoint serve it, if its verdict is PASS."""
    from flight_delays.tasks import deploy

    serving = deploy.Serving(
        endpoint=endpoint,
        workload_size=workload_size,
        scale_to_zero=scale_to_zero == "true",
        secret_scope=secret_scope,
        online_store=online_store == "true",
    )
    deploy.run(
        _context(schema, as_of),
        model_name=model_name,
        model_version=model_version,
        verdict_id=verdict_id,
        serving=serving,
    )


@app.command()
def score_batch(
    schema: Schema,
    model_name: ModelName,
    online_store: OnlineStore,
    as_of: AsOf,
    first_date: Annotated[str, typer.Option(help="First day to score, 2013-01-31; empty: no limit.")] = "",
    last_date: Annotated[str, typer.Option(help="Last day to score; empty: no limit.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Look at all rows, not at those since the last run.")] = False,
) -> None:
    """Score what the champion has not scored yet."""
    from flight_delays.tasks import score_batch

    window = score_batch.Window(first=_date("first-date", first_date), last=_date("last-date", last_date), full=full)
    score_batch.run(_context(schema, as_of), model_name=model_name, window=window, online_store=online_store == "true")


@app.command()
def score_stream(
    schema: Schema,
    raw_schema: RawSchema,
    model_name: ModelName,
    checkpoint: Checkpoint,
    watermark_minutes: Annotated[int, typer.Option(min=1, help="How long after a newer event an older one is taken.")],
    trigger: Annotated[str, typer.Option(help="available_now, or how often until stopped: 10 seconds.")],
    max_lag_seconds: MaxLag,
    online_store: OnlineStore,
    land_every: Annotated[
        int, typer.Option(min=1, help="Micro-batches after which a stream that goes on lands raw tables.")
    ] = 200,
) -> None:
    """Score entities as their events come in. Sets health."""
    from datetime import timedelta

    from flight_delays.tasks import score_stream

    stream = score_stream.Stream(
        model_name=model_name,
        raw_schema=raw_schema,
        delay=timedelta(minutes=watermark_minutes),
        land_every=land_every,
    )
    score_stream.run(
        _adapters(schema),
        stream=stream,
        checkpoint=checkpoint,
        trigger=trigger,
        max_lag_seconds=max_lag_seconds,
        online_store=online_store == "true",
    )


@stream_app.command()
def status(
    schema: Schema,
    checkpoint: Checkpoint,
    max_lag_seconds: MaxLag,
    last: Annotated[int, typer.Option(min=1, help="How many micro-batches to show.")] = 10,
) -> None:
    """Show the last micro-batches and predictions; exit code 1 unless the stream is healthy."""
    from flight_delays.tasks import stream_control

    adapters = _adapters(schema)
    if stream_control.status(adapters, checkpoint, last=last, max_lag_seconds=max_lag_seconds) != "PASS":
        raise typer.Exit(1)


stream_app.command(
    "start", help="Score entities as their events come in, until stopped: score-stream by another name."
)(score_stream)


@stream_app.command()
def stop(checkpoint: Checkpoint) -> None:
    """Ask the running stream to end after the micro-batch under way."""
    from flight_delays.platform.volumes import folder
    from flight_delays.tasks import stream_control

    typer.echo(stream_control.stop(folder(checkpoint)))


@stream_app.command()
def reset(checkpoint: Checkpoint) -> None:
    """Forget how far the stream has got: the next start reads all events again, and scores what it never scored."""
    from flight_delays.platform.volumes import folder
    from flight_delays.tasks import stream_control

    typer.echo(stream_control.reset(folder(checkpoint)))


@app.command()
def score_served(
    schema: Schema,
    model_name: ModelName,
    payload_table: Annotated[str, typer.Option(help="Inference table: <catalog>.<schema>.<table>.")],
    served_entities: Annotated[str, typer.Option(help="Table of what each served entity is.")],
    as_of: AsOf,
) -> None:
    """Add the endpoint's answers to predictions. Sets served."""
    from flight_delays.tasks import score_served

    score_served.run(
        _context(schema, as_of), model_name=model_name, payload_table=payload_table, served_entities=served_entities
    )


@app.command()
def parity(schema: Schema, model_name: ModelName, endpoint: Endpoint, online_store: OnlineStore, as_of: AsOf) -> None:
    """Compare the endpoint's answers with the batch's. Sets compared."""
    from flight_delays.tasks import parity

    parity.run(_context(schema, as_of), model_name=model_name, endpoint=endpoint, with_features=online_store == "false")


@app.command()
def load_test(
    schema: Schema,
    endpoint: Endpoint,
    connections: Annotated[int, typer.Option(min=1, help="How many send at the same time.")],
    seconds: Annotated[int, typer.Option(min=1, help="For how long.")],
    max_p99_ms: Annotated[float, typer.Option(help="The longest that 99 % of answers may take.")],
    max_error_rate: Annotated[float, typer.Option(min=0, max=1, help="The share of requests that may fail.")],
    min_requests_per_second: Annotated[float, typer.Option(min=0, help="The fewest that must be answered.")],
    online_store: OnlineStore,
    as_of: AsOf,
) -> None:
    """Put an endpoint under load with the newest rows. Sets requests_per_second and p99_ms."""
    from flight_delays.core.load import Limits
    from flight_delays.tasks import load_test

    limits = Limits(
        max_p99_ms=max_p99_ms, max_error_rate=max_error_rate, min_requests_per_second=min_requests_per_second
    )
    load_test.run(
        _context(schema, as_of),
        endpoint=endpoint,
        connections=connections,
        seconds=seconds,
        limits=limits,
        with_features=online_store == "false",
    )


@app.command()
def check_use_case(as_of: Annotated[str, typer.Option(help="What counts as now; default: now.")] = "") -> None:
    """Verify the use case on a sample of what it delivers, in seconds: each finding is a line with its fix."""
    from datetime import UTC, datetime

    from flight_delays.core.moments import moment_of
    from flight_delays.platform.ddl import declarations
    from flight_delays.tasks import check_use_case

    checked = use_case()
    moment = moment_of(as_of) if as_of else datetime.now(UTC)
    found = check_use_case.run(checked, declarations(checked.sql), moment)
    for finding in found.findings:
        typer.echo(finding)
    if found.findings:
        raise typer.Exit(1)
    typer.echo(f"{checked.name}: nothing found")
    if found.not_sampled:
        tables = ", ".join(found.not_sampled)
        typer.echo(
            f"NOT checked are labels, features, leaks and model: to read {tables} takes Spark; try it with Batches"
        )


@app.command("try")
def try_out(
    raw_tables: Annotated[str, typer.Option(help="Schema of the raw tables, or a folder of Delta tables.")],
    model_name: ModelName,
    holdout_days: HoldoutDays,
    as_of: AsOf,
    folder: Annotated[Path, typer.Option(help="Where to keep the history and the pictures.")],
    note: Annotated[str, typer.Option(help="What is tried, for the history.")] = "",
    own_parameters: Annotated[
        bool, typer.Option("--own-parameters", help="Not with the champion's setting, but with the one declared.")
    ] = False,
) -> None:
    """Fit the use case as it stands and compare it with the champion, in seconds; registers nothing."""
    from rich.console import Console

    from flight_delays.core.moments import moment_of
    from flight_delays.platform.raw import reader_of
    from flight_delays.platform.registry import connect
    from flight_delays.tasks import try_out

    try_out.run(
        use_case(),
        read=reader_of(raw_tables),
        champion=try_out.champion_of(connect(), model_name),
        as_of=moment_of(as_of),
        holdout_days=holdout_days,
        own_parameters=own_parameters,
        folder=folder,
        note=note,
        console=Console(width=None if sys.stdout.isatty() else 140),
    )


@app.command()
def query(
    endpoint: Endpoint,
    entity: Annotated[
        str | None,
        typer.Argument(help="Its columns as JSON or, with an online store, its id. Default: the newest there."),
    ] = None,
    online_store: StoreAddress = None,
) -> None:
    """Ask a serving endpoint for a forecast."""
    from rich.console import Console

    from flight_delays.platform.endpoints import connect
    from flight_delays.views.ask import answer, columns_in

    columns = columns_in(entity)
    if columns is None:
        if online_store is None:
            raise UserError("give the columns as JSON, or --online-store, which knows them by the entity's id")
        from flight_delays.platform.precomputed import request_columns

        columns = request_columns(online_store, use_case().request, entity)
    if columns is None:
        raise UserError(f"there is no {use_case().entity} {entity or ''} in the online store; see the table features")
    Console().print(answer(use_case(), connect(), endpoint, columns))


@app.command()
def lookup(
    entity_id: Annotated[str, typer.Argument(help="An entity's id.")], online_store: StoreAddress = None
) -> None:
    """Look up the newest prediction of an entity that was made beforehand."""
    if online_store is None:
        raise UserError(f"--online-store is missing; give the address of the online store, or set {STORE}")
    from rich.console import Console

    from flight_delays.platform.precomputed import COLUMNS, NO_TABLE, NOT_FOUND, PREDICTIONS_TABLE, find_prediction
    from flight_delays.platform.shell import NoTableError, OnlineStore
    from flight_delays.views.ask import precomputed

    try:
        # The limit of a service is for a connection that is kept; this is a first one.
        store = OnlineStore(online_store, limit_s=10, table=PREDICTIONS_TABLE, columns=COLUMNS[1:])
        found = find_prediction(store, entity_id)
    except ValueError as error:
        raise UserError(str(error)) from None
    except NoTableError:
        raise UserError(NO_TABLE) from None
    except ConnectionError as error:
        raise UserError(f"{error}; see that it is up, and that --online-store names it") from None
    if found is None:
        raise UserError(NOT_FOUND)
    Console().print(precomputed(use_case(), found))


@app.command()
def report(
    schema: Schema,
    raw_schema: RawSchema,
    model_name: ModelName,
    as_of: AsOf,
    file: Annotated[Path, typer.Option(help="Where to write the page.")],
) -> None:
    """Write a page to look at: the version that serves and why, its predictions, the data, and the jobs' last runs."""
    from flight_delays.views.report import write_report

    write_report(_context(schema, as_of), raw_schema=raw_schema, model_name=model_name, file=file)
    typer.echo(f"Report: {file.absolute().as_uri()}")


@app.command()
def dictionary() -> None:
    """Print the data dictionary: every table, column and view, from the SQL that declares them."""
    from flight_delays.views.dictionary import data_dictionary

    typer.echo(data_dictionary(use_case()), nl=False)


def job() -> None:
    """What a job calls, in its own process: returns None when the command succeeded, raises when it did not."""
    try:
        code = app(prog_name="flight-delays", standalone_mode=False)
    except typer.TyperException as error:
        raise UserError(error.format_message()) from error
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(f"flight-delays {' '.join(sys.argv[1:])} exited with {code}")


def check(arguments: list[str]) -> None:
    """Raise UserError for an option that a task lacks, or for a value that it can't have. Nothing is run."""
    task, *options = arguments
    command = typer.main.get_group(app).commands.get(task)
    if command is None:
        raise UserError(f"there is no task {task}")
    context = command.make_context(task, [], resilient_parsing=True)
    known = {name: parameter for parameter in command.params for name in parameter.opts}
    for name, equals, text in (option.partition("=") for option in options):
        if name not in known:
            raise UserError(f"task {task} has no option {name}; it has {', '.join(known)}")
        try:
            if equals:
                known[name].process_value(context, text)
        except typer.TyperException as error:
            raise UserError(error.format_message()) from None


def console() -> None:
    """What a person calls: an error that people can fix is one line and exit code 2."""
    try:
        sys.exit(app(prog_name="flight-delays", standalone_mode=False))
    except (UserError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        print(f"flight-delays: {message}", file=sys.stderr)
        sys.exit(2)


def _date(option: str, text: str) -> "date | None":
    from datetime import date

    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UserError(f"--{option} is {text!r}, not a date like 2013-01-31") from None


def use_case() -> "UseCase":
    """The use case that runs: the one place in this package that imports one."""
    name = os.environ.get(USE_CASE) or "flight_delays.use_case"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # what it imports is missing
        raise UserError(f"{USE_CASE} is {name}, and there is no such module") from error
    found: UseCase | None = getattr(module, "USE_CASE", None)
    if found is None:
        raise UserError(f"{USE_CASE} is {name}, which exports no USE_CASE")
    return found


def _context(schema: str, as_of: str) -> "Context":
    # Spark and MLflow take seconds to import: --help should not wait for them.
    from flight_delays.platform.context import open_context

    return open_context(use_case(), schema, as_of)


def _adapters(schema: str) -> "Adapters":
    from flight_delays.platform.context import open_adapters

    return open_adapters(use_case(), schema)
