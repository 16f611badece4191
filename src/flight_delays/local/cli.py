"""`flight-delays local`: the bundle's jobs on a laptop."""

import json
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flight_delays.core.errors import UserError
from flight_delays.local import world
from flight_delays.local.bundle import Bundle, load_bundle
from flight_delays.local.deploy import deploy, endpoints
from flight_delays.local.graph import State
from flight_delays.local.plan import Deployment, check_parameters, make_plan
from flight_delays.local.references import Resolver
from flight_delays.local.results import Result, live_line, summary
from flight_delays.local.runner import Runner
from flight_delays.local.target import Call, local_calls, option_values, validated, workspace_calls
from flight_delays.local.wheel import environment_of
from flight_delays.platform.runtime import LOCAL_DIR, Place, online_store, place, tracking_uri

if TYPE_CHECKING:
    import pyarrow as pa

    from flight_delays.core.use_case import UseCase
    from flight_delays.tasks.try_out import Champion

app = typer.Typer(help="Run the bundle's own jobs on this laptop.", no_args_is_help=True)

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]
Root = Annotated[Path | None, typer.Option(hidden=True, help="Folder of databricks.yml; default: the nearest above.")]


@app.command()
def run(
    context: typer.Context,
    jobs: Annotated[list[str], typer.Argument(help="Jobs by their key in resources/, run in this order.")],
    target: Annotated[str | None, typer.Option(help="A target of databricks.yml; default: its default one.")] = None,
    var: Annotated[list[str] | None, typer.Option(help="Bundle variable, name=value.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="Job parameter, name=value.")] = None,
    root: Root = None,
) -> None:
    """Run jobs; the exit code is 1 if one fails, and 2 if the bundle asks for what a laptop cannot do."""
    use_case, folder = context.find_root().obj(), root or world.find_root(Path.cwd())
    variables, parameters = _pairs("--var", var), _pairs("--param", param)
    console = Console()
    results = run_jobs(folder, target, jobs, variables, parameters, deploy, console)
    _report(use_case, folder, target, jobs, results, variables, parameters, console)
    if results[-1].state is State.FAILED:
        raise typer.Exit(1)


@app.command()
def notebook(
    names: Annotated[
        list[str] | None, typer.Argument(help="Notebooks by their name in notebooks/; default: all.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="A target of databricks.yml; default: its default one.")] = None,
    var: Annotated[list[str] | None, typer.Option(help="Bundle variable, name=value.")] = None,
    widget: Annotated[list[str] | None, typer.Option(help="Widget, name=value.")] = None,
    root: Root = None,
) -> None:
    """Run notebooks on what the jobs have made; each is kept as a page and as .ipynb with its results."""
    from flight_delays.local.notebook import run_notebooks

    folder = root or world.find_root(Path.cwd())
    known = {path.stem: path for path in sorted((folder / "notebooks").glob("*.py"))}
    if not known:
        raise UserError("notebooks/*.py: there is no notebook")
    if unknown := [name for name in names or () if name not in known]:
        raise UserError(f"notebooks/{unknown[0]}.py does not exist; there are {', '.join(known)}")
    bundle, variables = load_bundle(folder, target), _pairs("--var", var)
    local_dir = world.local_dir(folder, bundle.target)
    if place() is Place.LOCAL:
        calls, environment = _calls(bundle, local_dir, variables), {LOCAL_DIR: str(local_dir)}
    else:
        calls, environment = workspace_calls(validated(folder, bundle.target, variables)), {}
    widgets = {**option_values(calls), **_pairs("--widget", widget)}
    files = [known[name] for name in names or known]
    for page in run_notebooks(files, local_dir / "notebooks", environment, widgets, typer.echo):
        typer.echo(page)


@app.command()
def serve(
    context: typer.Context,
    target: Annotated[str | None, typer.Option(help="A target of databricks.yml; default: its default one.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1.")] = 8080,
    root: Root = None,
) -> None:
    """Serve what was released, by the endpoints' own API, until Ctrl-C; jobs that run meanwhile release to it."""
    from flight_delays.core.traffic import in_words
    from flight_delays.local.endpoints import request_for
    from flight_delays.platform.endpoints import connect

    with _served(root, target, port) as (endpoint, address, folder):
        serving = connect().configuration(endpoint)
        if not serving:
            raise UserError(f"endpoint {endpoint} serves no version yet; run flight-delays local run features train")
        body = json.dumps({"dataframe_records": [request_for(context.find_root().obj(), folder, None)]})
        typer.echo(f"{endpoint} serves {in_words(serving)} at {address}. Ask it, also by flight-delays query:\n")
        typer.echo(
            f"curl {address}/serving-endpoints/{endpoint}/invocations -H 'Authorization: Bearer local' "
            f"-H 'Content-Type: application/json' -d '{body}'\n"
        )
        typer.echo("Ctrl-C ends it.")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: what is under way is finished
        with suppress(KeyboardInterrupt):
            Event().wait()


@app.command()
def send_events(
    context: typer.Context,
    first: Annotated[
        datetime, typer.Option("--from", formats=_TIMES, help="From when on, UTC: 2013-07-01 or 2013-07-01T11:00.")
    ],
    end: Annotated[datetime, typer.Option("--to", formats=_TIMES, help="Before when, UTC.")],
    speed: Annotated[float, typer.Option(min=0, help="Simulated seconds in a second; 0: all at once.")] = 3600,
    out_of_order: Annotated[float, typer.Option(help="Fraction of events that a newer one overtakes.")] = 0,
    duplicated: Annotated[float, typer.Option(help="Fraction of events that are sent twice.")] = 0,
    late: Annotated[float, typer.Option(help="Fraction of events sent when the watermark has passed them.")] = 0,
    watermark_minutes: Annotated[int, typer.Option(help="The stream's watermark.")] = 120,
    seed: Annotated[int, typer.Option(help="Of the choice of events.")] = 0,
    target: Annotated[str | None, typer.Option(help="A target of databricks.yml; default: its default one.")] = None,
    root: Root = None,
) -> None:
    """Send what was known within a range of time, as events, into the tables of events."""
    start, stop = first.replace(tzinfo=UTC), end.replace(tzinfo=UTC)
    if start >= stop:
        raise UserError(
            f"--to {stop:%Y-%m-%dT%H:%M} is not after --from {start:%Y-%m-%dT%H:%M}; it is the end, not included"
        )
    from flight_delays.local import send_events as events
    from flight_delays.platform.session import spark_session
    from flight_delays.platform.tables import Tables
    from flight_delays.tasks.report import show

    watermark = timedelta(minutes=watermark_minutes)
    how = events.Disorder(out_of_order=out_of_order, duplicated=duplicated, late=late, watermark=watermark, seed=seed)
    folder = root or world.find_root(Path.cwd())
    bundle = load_bundle(folder, target)
    local_dir = world.local_dir(folder, bundle.target)
    schema = option_values(_calls(bundle, local_dir, {}))["schema"]
    with environment_of({LOCAL_DIR: str(local_dir)}):
        tables = Tables(spark=spark_session(), schema=schema, unity_catalog=False)
        known = events.events_between(tables, context.find_root().obj(), start, stop)
        sent = {table: events.disorder(rows[rows["event_time"] < stop], how) for table, rows in known.items()}
        events.send(
            tables,
            {table: rows for table, (rows, _) in sent.items()},
            speed=speed,
            every_s=1,
            clock=lambda: datetime.now(tz=UTC),
            sleep=time.sleep,
            progress=typer.echo,
        )
    show(
        Console(),
        f"Sent to {schema}",
        ("table", "events", "out of order", "duplicated", "late"),
        [(table, len(rows), of.out_of_order, of.duplicated, of.late) for table, (rows, of) in sent.items()],
    )


@contextmanager
def asked(
    use_case: "UseCase", entity_id: str | None, root: Path | None = None
) -> Iterator[tuple[str, dict[str, object]]]:
    """For one question: the default target's endpoint, served meanwhile, and the columns of a request."""
    from flight_delays.local.endpoints import request_for

    with _served(root, None, 0) as (endpoint, _, folder):
        yield endpoint, request_for(use_case, folder, entity_id)


@contextmanager
def tried(
    within: str | None, against: str | None, root: Path | None = None
) -> Iterator[tuple[Callable[[str], "pa.Table"], "Champion | None", Mapping[str, str], Path]]:
    """For a try: how to read a raw table of the one target, the champion of the other, options, where to keep it."""
    from flight_delays.platform import registry
    from flight_delays.tasks.try_out import champion_of

    folder = root or world.find_root(Path.cwd())

    def options(target: str | None) -> tuple[Mapping[str, str], Path]:
        bundle = load_bundle(folder, target)
        local_dir = world.local_dir(folder, bundle.target)
        local = place() is Place.LOCAL
        calls = _calls(bundle, local_dir, {}) if local else workspace_calls(validated(folder, bundle.target, {}))
        return option_values(calls), local_dir

    of_champion, champion_dir = options(against or within)
    with environment_of({LOCAL_DIR: str(champion_dir)} if place() is Place.LOCAL else {}):
        champion = champion_of(registry.connect(), of_champion["model_name"])
    found, local_dir = options(within)
    read = (
        _read_local(local_dir, found["raw_schema"]) if place() is Place.LOCAL else _read_workspace(found["raw_schema"])
    )
    yield read, champion, found, local_dir / "try"


def _read_local(local_dir: Path, schema: str) -> Callable[[str], "pa.Table"]:
    """Without Spark, whose start would take longer than all the rest."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    from flight_delays.local.endpoints import location

    def read(table: str) -> "pa.Table":
        try:
            rows: pa.Table = DeltaTable(location(local_dir, f"{schema}.{table}")).to_pyarrow_table()
        except TableNotFoundError:
            raise UserError(f"table {schema}.{table} does not exist; run flight-delays local run features") from None
        return rows

    return read


def _read_workspace(schema: str) -> Callable[[str], "pa.Table"]:
    from flight_delays.platform.session import spark_session
    from flight_delays.platform.tables import Tables

    tables = Tables(spark=spark_session(), schema=schema, unity_catalog=True)
    return lambda table: tables.read(table).toArrow()


def online_store_address(root: Path | None = None) -> str:
    """The default target's online store. Raises UserError if it is not there yet."""
    folder = root or world.find_root(Path.cwd())
    file = online_store(world.local_dir(folder, load_bundle(folder, None).target))
    if not file.exists():
        raise UserError("there is no online store yet; run flight-delays local run features train score_batch")
    return f"sqlite:///{file}"


@contextmanager
def _served(root: Path | None, target: str | None, port: int) -> Iterator[tuple[str, str, Path]]:
    """The first endpoint of a target, its address and the target's folder."""
    from flight_delays.local.endpoints import served

    folder = root or world.find_root(Path.cwd())
    bundle = load_bundle(folder, target)
    local_dir = world.local_dir(folder, bundle.target)
    plan = make_plan(bundle, Resolver(bundle, local_dir, {}), bundle.map_at(("resources", "jobs")))
    if not plan.deployment.endpoints:
        raise UserError("no job of this bundle uses a serving endpoint")
    with environment_of({LOCAL_DIR: str(local_dir)}), served(local_dir, plan.deployment, port=port) as address:
        yield plan.deployment.endpoints[0].name, address, local_dir


@app.command()
def reset(target: Annotated[str | None, typer.Option(help="Default: all targets.")] = None, root: Root = None) -> None:
    """Delete the local tables, models and runs."""
    folder = root or world.find_root(Path.cwd())
    for name in [target] if target else world.targets(folder):
        removed = world.reset(folder, name)
        typer.echo(f"{world.FOLDER}/{name}: {'removed' if removed else 'nothing to remove'}")


@app.command()
def dictionary(context: typer.Context, root: Root = None) -> None:
    """Write docs/data-dictionary.md from the SQL that declares the tables."""
    from flight_delays.local.dictionary import FILE, data_dictionary

    file = (root or world.find_root(Path.cwd())) / FILE
    file.write_text(data_dictionary(context.find_root().obj()), encoding="utf-8")
    typer.echo(file)


def run_jobs(
    root: Path,
    target: str | None,
    jobs: list[str],
    variables: Mapping[str, str],
    parameters: Mapping[str, str],
    prepare: Callable[[Deployment, Path], None],
    console: Console,
) -> list[Result]:
    """Check everything, prepare the local world, run the jobs up to the first that fails."""
    bundle = load_bundle(root, target)
    local_dir = world.local_dir(root, bundle.target)
    plan = make_plan(bundle, Resolver(bundle, local_dir, variables), jobs)
    for job in jobs:
        check_parameters(plan, job, parameters)
    runner = Runner(plan=plan, local_dir=local_dir, console=console)
    results: list[Result] = []
    with world.locked(root, bundle.target), environment_of({LOCAL_DIR: str(local_dir)}):
        with live_line(console, "deploy"):
            prepare(plan.deployment, local_dir)
        with endpoints(plan.deployment, local_dir):
            for job in jobs:
                results.append(runner.run(job, parameters))
                if results[-1].state is State.FAILED:
                    break
    console.print(summary(results, jobs[len(results) :]))
    if results[-1].state is State.FAILED:
        left = " ".join(jobs[len(results) - 1 :])
        given = [f"--var={name}={value}" for name, value in variables.items()]
        given += [f"--param={name}={value}" for name, value in parameters.items()]
        again = f"flight-delays local run {left} --target {bundle.target} {shlex.join(given)}".rstrip()
        advice = f"The note says why; more stands above. Then: {again}"
    else:
        has_runs = (local_dir / "mlflow.db").exists()
        runs = (
            f"Runs and models: mlflow ui --backend-store-uri {tracking_uri(local_dir)}" if has_runs else "No model yet."
        )
        advice = f"Tables: {local_dir / 'warehouse'}. {runs}"
    console.print(advice, markup=False, highlight=False, soft_wrap=True)
    return results


def _report(
    use_case: "UseCase",
    root: Path,
    target: str | None,
    jobs: list[str],
    results: list[Result],
    variables: Mapping[str, str],
    parameters: Mapping[str, str],
    console: Console,
) -> None:
    from flight_delays.local.report import write_report

    bundle = load_bundle(root, target)
    local_dir = world.local_dir(root, bundle.target)
    title = f"{bundle.at(('bundle', 'name'))}, target {bundle.target}"
    try:
        options = {**option_values(_calls(bundle, local_dir, variables)), **parameters}
        with environment_of({LOCAL_DIR: str(local_dir)}), live_line(console, "report"):
            page = write_report(use_case, local_dir, title, results, jobs[len(results) :], options)
        line = f"Report: {page.as_uri()}"
    except UserError as error:
        line = f"No report: {error}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _calls(bundle: Bundle, local_dir: Path, variables: Mapping[str, str]) -> list[Call]:
    """The wheel tasks of all jobs, as a laptop resolves them."""
    jobs = bundle.map_at(("resources", "jobs"))
    return local_calls(make_plan(bundle, Resolver(bundle, local_dir, variables), jobs))


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    pairs = {}
    for value in values or []:
        name, equals, text = value.partition("=")
        if not equals:
            raise UserError(f"{option} {value}: must be name=value")
        pairs[name] = text
    return pairs
