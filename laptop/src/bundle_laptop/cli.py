"""`laptop`: a Databricks bundle's jobs, notebooks and serving endpoints, on this machine, without a workspace."""

import csv
import os
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console

from bundle_laptop import world
from bundle_laptop.bundle import load_bundle
from bundle_laptop.errors import LaptopError
from bundle_laptop.session import opened
from bundle_laptop.settings import read_settings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Target = Annotated[str | None, typer.Option("--target", "-t", help="A target of databricks.yml; default: its default.")]
Var = Annotated[list[str] | None, typer.Option(help="Bundle variable, name=value.")]
Root = Annotated[Path | None, typer.Option(hidden=True, help="Folder of databricks.yml; default: the nearest above.")]
_INTERRUPTED = 130


@app.command()
def run(
    jobs: Annotated[list[str], typer.Argument(help="Jobs by their key in resources, run in this order.")],
    target: Target = None,
    var: Var = None,
    param: Annotated[list[str] | None, typer.Option(help="Job parameter, name=value.")] = None,
    params: Annotated[str, typer.Option(help="Several, as the Databricks CLI has them: name=value,name=value.")] = "",
    only: Annotated[str, typer.Option(help="Only these tasks of the jobs: task,task.")] = "",
    root: Root = None,
) -> None:
    """Run jobs; the exit code is 1 if one fails, and 2 if the bundle asks for what a laptop cannot do."""
    from bundle_laptop.graph import State

    param = [*(param or ()), *next(csv.reader([params]), [])]
    given, parameters, console = _pairs("--var", var), _pairs("--param", param), Console()
    with opened(_root(root), target, given, console) as session:
        results = session.run(jobs, parameters, [task for task in only.split(",") if task])
        for command in session.settings.after_run:
            session.execute([command])
    if results[-1].state is State.FAILED:
        left = shlex.join(jobs[len(results) - 1 :])
        options = [f"--var={each}" for each in var or ()] + [f"--param={each}" for each in param]
        options += [f"--only={only}"] if only else []
        again = f"laptop run {left} {shlex.join([f'--target={session.bundle.target}', *options])}"
        _say(console, f"The note says why; more stands above. Then: {again}")
        raise typer.Exit(1)
    _say(console, f"Tables, models and runs: {session.folder}. Look at them: laptop ui, laptop sql, laptop notebook")


@app.command()
def notebook(
    names: Annotated[list[str] | None, typer.Argument(help="Notebooks by name in notebooks/; default: all.")] = None,
    target: Target = None,
    var: Var = None,
    widget: Annotated[list[str] | None, typer.Option(help="Widget, name=value.")] = None,
    folder: Annotated[str, typer.Option(help="The bundle's folder of notebooks.")] = "notebooks",
    root: Root = None,
) -> None:
    """Run notebooks on what the jobs have made; each is kept as a page and as .ipynb with its results.

    A widget that is named like an option of the jobs' tasks has its value.
    """
    place, given = _root(root), _pairs("--widget", widget)
    known = {path.stem: path for path in sorted((place / folder).glob("*")) if path.suffix in (".py", ".ipynb")}
    if not known:
        raise LaptopError(f"{folder}: there is no notebook")
    if unknown := [name for name in names or () if name not in known]:
        raise LaptopError(f"{folder}/{unknown[0]} does not exist; there are {', '.join(known)}")
    with opened(place, target, _pairs("--var", var), Console()) as session:
        for page in session.look([known[name] for name in names or known], given):
            typer.echo(page)


@app.command()
def serve(
    target: Target = None,
    var: Var = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1.")] = 8080,
    load_seconds: Annotated[
        float, typer.Option(min=0, help="Time to load a version, as a workspace needs minutes for its container.")
    ] = 0,
    root: Root = None,
) -> None:
    """Serve the endpoints, by the workspace's own API, until Ctrl-C; jobs that run meanwhile release to them."""
    with opened(_root(root), target, _pairs("--var", var), Console(), port=port, load_seconds=load_seconds) as session:
        session.deploy()
        for line in session.served():
            typer.echo(line)
        typer.echo("Ctrl-C ends it.")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: what is under way is finished
        with suppress(KeyboardInterrupt):
            Event().wait()


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec(  # noqa: A001
    command: Annotated[list[str], typer.Argument(help="A command of pyproject.toml, or an installed program.")],
    target: Target = None,
    var: Var = None,
    root: Root = None,
) -> None:
    """Run a program in this world, so that it finds the bundle's tables, models and endpoints.

    ${...} in its arguments is filled in as in the bundle's files.
    """
    with opened(_root(root), target, _pairs("--var", var), Console()) as session:
        raise typer.Exit(session.execute(command))


@app.command()
def sql(query: str, target: Target = None, root: Root = None) -> None:
    """Show what a query finds, at most 50 rows."""
    folder = _existing(_root(root), target)
    from pyspark.sql import SparkSession

    from bundle_laptop.spark import spark_in

    with world.entered(folder), spark_in(folder):
        try:
            SparkSession.builder.getOrCreate().sql(query).show(50, truncate=60)
        except Exception as error:  # whatever Spark has to say of it
            raise LaptopError(str(error).partition("\n")[0]) from None


@app.command()
def ui(target: Target = None, port: Annotated[int, typer.Option(help="Port.")] = 5000, root: Root = None) -> None:
    """Open MLflow's pages on the runs and models of this world, until Ctrl-C."""
    folder = _existing(_root(root), target)
    from mlflow.cli import server

    typer.launch(f"http://127.0.0.1:{port}")
    server.main(["--backend-store-uri", world.tracking_uri(folder), "--port", str(port)], standalone_mode=False)


@app.command()
def status(target: Target = None, root: Root = None) -> None:
    """Show the last runs, what the endpoints serve, and the tables."""
    from bundle_laptop.status import show

    show(_existing(_root(root), target), Console())


@app.command()
def reset(
    target: Annotated[str | None, typer.Argument(help="The target whose world to delete.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    root: Root = None,
) -> None:
    """Delete the tables, models and runs of one target."""
    place = _root(root)
    there = world.targets(place)
    if target is None or target not in there:
        problem = f"there is nothing of {target}" if target else "say which target"
        raise LaptopError(f"{problem}; there are {', '.join(there) or 'none'}")
    if not yes and not typer.confirm(f"Delete all tables, models and runs in {world.FOLDER}/{target}?"):
        raise typer.Exit(1)
    world.reset(place, target)
    typer.echo(f"{world.FOLDER}/{target}: removed")


def main() -> None:
    """The program: an error that a person can fix is one line and exit code 2; Ctrl-C ends at once, with 130."""
    try:
        code = app(_completed(sys.argv[1:]), prog_name="laptop", standalone_mode=False)
    except (LaptopError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        print(f"laptop: {message}", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    sys.stdout.flush()
    if code == _INTERRUPTED:
        os._exit(code)  # Spark and servers would take seconds to end in order
    sys.exit(code)


def _completed(arguments: list[str]) -> list[str]:
    """A command of pyproject.toml stands for itself."""
    known = {getattr(command.callback, "__name__", "") for command in app.registered_commands}
    if not arguments or arguments[0].startswith("-") or arguments[0] in known:
        return arguments
    return ["exec", *arguments] if arguments[0] in read_settings(world.find_root(Path.cwd())).commands else arguments


def _root(given: Path | None) -> Path:
    return given or world.find_root(Path.cwd())


def _existing(root: Path, target: str | None) -> Path:
    name = load_bundle(root, target).target
    if name not in world.targets(root):
        raise LaptopError(f"there is nothing of {name} yet; run a job first: laptop run <job>")
    return world.world_of(root, name)


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    pairs = {}
    for value in values or []:
        name, equals, text = value.partition("=")
        if not equals:
            raise LaptopError(f"{option} {value}: must be name=value")
        pairs[name] = text
    return pairs


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
