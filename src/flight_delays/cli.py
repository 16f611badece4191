"""`flight-delays <task> ...`: the same command in a job and by hand; core/settings.py declares what each takes."""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TextIO, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from flight_delays.core import settings
from flight_delays.core.errors import UserError
from flight_delays.core.settings import ARGUMENT, AsOf, InSchema, made, option_of, settings_of, value_of

if TYPE_CHECKING:
    from flight_delays.core.use_case import UseCase
    from flight_delays.platform.context import Adapters

USE_CASE = "FLIGHT_DELAYS_USE_CASE"  # names a module other than the one of this package
STORE = "FLIGHT_DELAYS_ONLINE_STORE"
_METAVARS: dict[Any, str] = {int: "INTEGER", float: "NUMBER", bool: "true|false"}


@click.group()
@click.option("--target", help="Take options that are not given from this target's jobs; asks the Databricks CLI.")
@click.pass_context
def app(context: click.Context, target: str | None) -> None:
    """A model from raw tables to predictions, one subcommand per job task."""
    if target is not None:
        from flight_delays.platform.target import bundle_of, options_of, runs_as

        context.obj = bundle_of(target)
        options = options_of(context.obj, datetime.now(UTC))
        scoring = options.get("score-stream", {})
        context.default_map = {
            "status": options.get("promote", {}),
            "approve": options.get("promote", {}),
            "incidents": options.get("promote", {}),
            "drift-page": options.get("features", {}),
            "profile-tables": options.get("features", {}),
            "approvers": {"runs_as": runs_as(context.obj)},
            "explain": {**options.get("features", {}), **options.get("score-served", {})},
            **options,
            "ab-test": dict.fromkeys(("start", "status", "stop"), options.get("rollout", {})),
            "stream": dict.fromkeys(("start", "status", "stop", "reset"), scoring),
        }


@app.group("ab-test")
def ab_test() -> None:
    """The A/B test of a version that is being rolled out."""


@app.group()
def stream() -> None:
    """The stream that scores what comes in."""


class _Value(click.ParamType[object]):
    """What a setting takes."""

    name = "text"

    def __init__(self, setting: FieldInfo) -> None:
        self._setting = setting

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return value_of(self._setting, value)
        except ValueError as error:
            self.fail(f"{str(value)!r} {error}.", param, ctx)


def _parameter(name: str, setting: FieldInfo) -> click.Parameter:
    meaning, kind = setting.description, setting.annotation
    if setting.default is False:
        return click.Option([option_of(name)], is_flag=True, help=meaning)
    given: dict[str, Any] = {"type": _Value(setting)}
    given |= {"required": True} if setting.is_required() else {"default": setting.default}
    if ARGUMENT in setting.metadata:
        return click.Argument([name], **given)
    metavar = "|".join(get_args(kind)) if get_origin(kind) is Literal else _METAVARS.get(kind, "TEXT")
    return click.Option([option_of(name)], **given, metavar=metavar, help=meaning, show_default=True)


def _add(group: click.Group, name: str, run: Callable[..., None], *declared: type) -> None:
    """A command that takes these settings: `run` gets a value of each; the last one says what it does."""

    def call(**given: object) -> None:
        run(*(made(one, given) for one in declared))

    known = settings_of(*declared)
    arguments = [f"{name.upper()}: {one.description}" for name, one in known.items() if ARGUMENT in one.metadata]
    text = "\n\n".join([declared[-1].__doc__ or "", *arguments])
    parameters = [_parameter(*each) for each in known.items()]
    group.add_command(click.Command(name, params=parameters, callback=call, help=text))


def _task(name: str) -> Callable[[InSchema, object], None]:
    def run(scope: InSchema, given: object) -> None:
        adapters = _opened(scope)
        task = import_module(f"flight_delays.tasks.{name.replace('-', '_')}")
        task.run(adapters, *([given] if vars(given) else []))

    return run


def _opened(scope: InSchema) -> "Adapters":
    # Spark and MLflow take seconds to import: --help should not wait for them.
    from flight_delays.platform.context import open_adapters, open_context

    if isinstance(scope, AsOf):
        return open_context(use_case(), scope.schema, scope.as_of)
    return open_adapters(use_case(), scope.schema)


def _stream_status(scope: InSchema, given: settings.StreamStatus) -> None:
    from flight_delays.tasks import stream_control

    if stream_control.status(_opened(scope), given) != "PASS":
        raise click.exceptions.Exit(1)


def _release_status(scope: InSchema, given: settings.Status) -> None:
    from flight_delays.views.status import show_status

    if not show_status(_opened(scope), given):
        raise click.exceptions.Exit(1)


def _order(order: str) -> Callable[[InSchema, settings.Rollout], None]:
    def run(scope: InSchema, given: settings.Rollout) -> None:
        _task("rollout")(scope, made(settings.Rollout, {**vars(given.policy), **vars(given), "order": order}))

    return run


def _ab_test_status(scope: AsOf, given: settings.ABTestStatus) -> None:
    from flight_delays.platform.context import open_context
    from flight_delays.views.ab_test import show_ab_test

    show_ab_test(open_context(use_case(), scope.schema, scope.as_of), given)


def _approve(given: settings.Approve) -> None:
    from flight_delays.platform.registry import connect
    from flight_delays.tasks.approval import approve

    click.echo(approve(connect(), given))


def _approvers(given: settings.Approvers) -> None:
    from rich.console import Console

    from flight_delays.platform.approvals import connect
    from flight_delays.views.approvers import show_approvers

    if not show_approvers(Console(width=None if sys.stdout.isatty() else 140), connect(), given):
        raise click.exceptions.Exit(1)


def _explain(scope: InSchema, given: settings.Explain) -> None:
    from flight_delays.tasks import explain

    if not explain.run(_opened(scope), given):
        raise click.exceptions.Exit(1)


def _incidents(scope: InSchema, given: settings.Incidents) -> None:
    from flight_delays.tasks import retraining

    retraining.incidents(_opened(scope), given)


def _profile_tables(scope: InSchema, _: settings.ProfileTables) -> None:
    from flight_delays.platform.data_quality import profile_tables
    from flight_delays.platform.endpoints import connect

    for table, done in profile_tables(connect().client, scope.schema, use_case().objective):
        click.echo(f"{table} {done}")


def _checkpoint(action: str) -> Callable[[settings.StreamStop | settings.StreamReset], None]:
    def run(given: settings.StreamStop | settings.StreamReset) -> None:
        from flight_delays.platform.volumes import folder
        from flight_delays.tasks import stream_control

        click.echo(getattr(stream_control, action)(folder(given.checkpoint)))

    return run


def _check_use_case(given: settings.CheckUseCase) -> None:
    from flight_delays.platform.ddl import declarations
    from flight_delays.tasks import check_use_case

    checked = use_case()
    found = check_use_case.run(checked, declarations(checked.sql), given.as_of or datetime.now(UTC))
    for finding in found.findings:
        click.echo(finding)
    if found.findings:
        raise click.exceptions.Exit(1)
    click.echo(f"{checked.name}: nothing found")
    if tables := ", ".join(found.not_sampled):
        click.echo(
            f"NOT checked are labels, features, leaks and model: to read {tables} takes Spark; try it with Batches"
        )


def _try(given: settings.Try) -> None:
    from rich.console import Console

    from flight_delays.platform.raw import reader_of
    from flight_delays.platform.registry import connect
    from flight_delays.tasks import try_out

    try_out.run(
        use_case(),
        given,
        read=reader_of(given.raw_tables),
        champion=try_out.champion_of(connect(), given.model_name),
        console=Console(width=None if sys.stdout.isatty() else 140),
    )


def _model_diff(given: settings.ModelDiff) -> None:
    from flight_delays.platform.raw import reader_of
    from flight_delays.platform.registry import connect
    from flight_delays.tasks import model_diff
    from flight_delays.views.model_diff import model_diff as in_markdown

    checked = use_case()
    diff = model_diff.run(checked, given, read=reader_of(given.raw_tables), registry=connect())
    text = in_markdown(checked, diff)
    given.file.parent.mkdir(parents=True, exist_ok=True)
    given.file.write_text(text, encoding="utf-8")
    click.echo(text)
    if diff.is_worse or diff.golden.failed:
        raise click.exceptions.Exit(1)


def _image(given: settings.Image) -> None:
    from rich.console import Console

    from flight_delays.platform.registry import connect
    from flight_delays.serving.__main__ import loaded
    from flight_delays.tasks import image

    image.run(
        connect(),
        given,
        created=datetime.now(UTC),
        check=loaded,
        console=Console(width=None if sys.stdout.isatty() else 140),
    )


def _image_made(given: settings.ImageMade) -> None:
    from flight_delays.platform.registry import connect
    from flight_delays.tasks.image import note

    click.echo(note(connect(), given))


def _query(given: settings.Query) -> None:
    from rich.console import Console

    from flight_delays.platform.endpoints import connect
    from flight_delays.platform.precomputed import request_columns
    from flight_delays.views.ask import answer, columns_in

    columns = columns_in(given.entity)
    if columns is None:
        store = given.store_address or os.environ.get(STORE)
        if not store:
            raise UserError("give the columns as JSON, or --store-address, which knows them by the entity's id")
        columns = request_columns(store, use_case().request, given.entity)
    if columns is None:
        raise UserError(
            f"there is no {use_case().entity} {given.entity or ''} in the online store; see the table features"
        )
    Console().print(answer(use_case(), connect(), given.endpoint, columns))


def _lookup(given: settings.Lookup) -> None:
    address = given.store_address or os.environ.get(STORE)
    if not address:
        raise UserError(f"--store-address is missing; give the address of the online store, or set {STORE}")
    import asyncio

    from rich.console import Console

    from flight_delays.platform.online_table import NoTableError, OnlineStore
    from flight_delays.platform.precomputed import COLUMNS, NO_TABLE, NOT_FOUND, PREDICTIONS_TABLE, find_prediction
    from flight_delays.views.ask import precomputed

    try:
        # The limit of a service is for a connection that is kept; this is a first one.
        store = OnlineStore(address, limit_s=10, table=PREDICTIONS_TABLE, columns=COLUMNS[1:])
        found = asyncio.run(find_prediction(store, given.entity_id))
    except ValueError as error:
        raise UserError(str(error)) from None
    except NoTableError:
        raise UserError(NO_TABLE) from None
    except ConnectionError as error:
        raise UserError(f"{error}; see that it is up, and that --store-address names it") from None
    if found is None:
        raise UserError(NOT_FOUND)
    Console().print(precomputed(use_case(), found))


def _drift_page(scope: AsOf, given: settings.DriftPage) -> None:
    from flight_delays.tasks import drift_page

    drift_page.check()
    _task("drift-page")(scope, given)
    click.echo(f"Page: {given.file.absolute().as_uri()}")


def _stage(given: settings.Stage) -> None:
    from flight_delays.platform.registry import connect
    from flight_delays.platform.serving_platform import PLATFORMS
    from flight_delays.tasks import stage

    scheme = given.endpoint.partition("://")[0]
    if scheme not in PLATFORMS:
        raise UserError(f"{given.endpoint} does not begin with {' or '.join(f'{one}://' for one in PLATFORMS)}")
    registry = connect()
    click.echo(stage.run(given, registry, PLATFORMS[scheme](registry), click.echo))


def _azureml_register(given: settings.AzuremlRegister) -> None:
    from flight_delays.platform.registry import connect

    try:
        from flight_delays.platform.azure_ml import connect as connect_azure
        from flight_delays.tasks import azureml_register
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; install flight-delays[azureml]") from error
    registry = connect()
    click.echo(azureml_register.run(given, registry, connect_azure(registry)))


def _report(scope: AsOf, given: settings.Report) -> None:
    from flight_delays.platform.context import open_context
    from flight_delays.views.report import write_report

    write_report(open_context(use_case(), scope.schema, scope.as_of), given)
    click.echo(f"Report: {given.file.absolute().as_uri()}")


@app.command()
def dictionary() -> None:
    """Print the data dictionary: every table, column and view, from the SQL that declares them."""
    from flight_delays.views.dictionary import data_dictionary

    click.echo(data_dictionary(use_case()), nl=False)


@app.command("plan-check")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--allow", metavar="KEY", multiple=True, help="A resource that may go, like jobs.train; repeat for more.")
def plan_check(file: TextIO, allow: tuple[str, ...]) -> None:
    """Say what a deploy would change; exit code 2 if it takes a resource away.

    FILE is what `databricks bundle plan -t <target> -o json` prints, or - for standard input.
    """
    from flight_delays.core.deploy_plan import changes_of, read_plan, refused

    changes = changes_of(read_plan(file.read()))
    for change in changes:
        click.echo(f"{change.action:8} {change.key}" + (f": {', '.join(change.fields)}" if change.fields else ""))
    click.echo(f"{len(changes)} changes" if changes else "Nothing changes.")
    if lines := refused(changes, allow):
        for line in lines:
            click.echo(line, err=True)
        key, *_ = lines[0].split()
        raise UserError(f"the deploy would take away {len(lines)} of the resources; if that is meant, --allow {key}")


@app.command("remove-artifacts")
@click.option("--days", type=click.IntRange(min=1), default=30, show_default=True, help="How long each is kept.")
@click.pass_obj
def remove_artifacts(bundle: dict[str, Any] | None, days: int) -> None:
    """Remove what older commits deployed: wheels that no job and no run in progress needs.

    Takes --target in front.
    """
    from flight_delays.platform.artifacts import remove_old
    from flight_delays.platform.endpoints import connect

    if bundle is None:
        raise UserError("--target is missing; say flight-delays --target <target> remove-artifacts")
    removed = remove_old(connect().client, bundle, datetime.now(UTC) - timedelta(days=days))
    click.echo("\n".join([*removed, f"{len(removed)} removed"]))


for _name, _declared in settings.TASKS.items():
    _add(app, _name, _task(_name), *_declared)
_add(app, "status", _release_status, InSchema, settings.Status)
_add(app, "approve", _approve, settings.Approve)
_add(app, "approvers", _approvers, settings.Approvers)
_add(ab_test, "start", _order("ab-test"), AsOf, settings.Rollout)
_add(ab_test, "status", _ab_test_status, AsOf, settings.ABTestStatus)
_add(ab_test, "stop", _order("stop"), AsOf, settings.Rollout)
_add(app, "incidents", _incidents, InSchema, settings.Incidents)
_add(app, "profile-tables", _profile_tables, InSchema, settings.ProfileTables)
_add(app, "explain", _explain, InSchema, settings.Explain)
_add(stream, "start", _task("score-stream"), *settings.TASKS["score-stream"])
_add(stream, "status", _stream_status, InSchema, settings.StreamStatus)
_add(stream, "stop", _checkpoint("stop"), settings.StreamStop)
_add(stream, "reset", _checkpoint("reset"), settings.StreamReset)
_add(app, "check-use-case", _check_use_case, settings.CheckUseCase)
_add(app, "try", _try, settings.Try)
_add(app, "model-diff", _model_diff, settings.ModelDiff)
_add(app, "image", _image, settings.Image)
_add(app, "image-made", _image_made, settings.ImageMade)
_add(app, "query", _query, settings.Query)
_add(app, "lookup", _lookup, settings.Lookup)
_add(app, "drift-page", _drift_page, AsOf, settings.DriftPage)
_add(app, "stage", _stage, settings.Stage)
_add(app, "azureml-register", _azureml_register, settings.AzuremlRegister)
_add(app, "report", _report, AsOf, settings.Report)


def job() -> None:
    """What a job calls, in its own process: returns None when the command succeeded, raises when it did not."""
    if code := _called():
        raise RuntimeError(f"flight-delays {' '.join(sys.argv[1:])} exited with {code}")


def check(arguments: list[str]) -> None:
    """Raise UserError for an option that a task lacks, or for a value that it can't have. Nothing is run."""
    task, *options = arguments
    if task not in settings.TASKS:
        raise UserError(f"there is no task {task}")
    known = {option_of(name): setting for name, setting in settings_of(*settings.TASKS[task]).items()}
    for name, equals, text in (option.partition("=") for option in options):
        if name not in known:
            raise UserError(f"task {task} has no option {name}; it has {', '.join(known)}")
        try:
            if equals:
                value_of(known[name], text)
        except ValueError as error:
            raise UserError(f"{name}={text}: it {error}") from None


def console() -> None:
    """What a person calls: an error that people can fix is one line and exit code 2."""
    try:
        sys.exit(_called())
    except UserError as error:
        print(f"flight-delays: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _called() -> int:
    try:
        code: int | None = app(sys.argv[1:] or ["--help"], prog_name="flight-delays", standalone_mode=False)
    except click.ClickException as error:
        raise UserError(error.format_message()) from error
    except click.Abort:
        raise KeyboardInterrupt from None
    return code or 0


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
