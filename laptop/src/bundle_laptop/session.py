"""One bundle in one world, opened for a command: its tasks find Spark, MLflow and the workspace's API there."""

import json
import os
import runpy
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from rich.console import Console

from bundle_laptop import api
from bundle_laptop.api.scoring import Scorer, load_version
from bundle_laptop.api.state import write_atomically
from bundle_laptop.bundle import Bundle, load_bundle
from bundle_laptop.calls import called_as
from bundle_laptop.completed import completed, loaded
from bundle_laptop.dbutils import give
from bundle_laptop.deploy import deploy
from bundle_laptop.errors import LaptopError
from bundle_laptop.graph import State
from bundle_laptop.options import check_arguments, option_values
from bundle_laptop.plan import Plan, check_parameters, make_plan
from bundle_laptop.references import Resolver
from bundle_laptop.results import Result, live_line, summary
from bundle_laptop.runner import Runner
from bundle_laptop.settings import Settings, read_settings
from bundle_laptop.world import STORE_VARIABLE, entered, environment_of, locked, made, world_of

if TYPE_CHECKING:
    from databricks.sdk.service.serving import ServingEndpointDetailed


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a command works with. `written` resolves what the bundle's files say, and nothing that its Python adds."""

    written: Resolver
    settings: Settings
    console: Console
    address: str

    @cached_property
    def named(self) -> Resolver:
        """With all resources and their names. Raises LaptopError with what the bundle's Python says of a mistake."""
        return loaded(self.written)

    @cached_property
    def resolver(self) -> Resolver:
        """Of the whole bundle. Raises LaptopError likewise."""
        return completed(self.named)

    @property
    def bundle(self) -> Bundle:
        """The bundle, with what its Python adds."""
        return self.resolver.bundle

    @property
    def folder(self) -> Path:
        """The world."""
        return self.written.folder

    def run(self, jobs: Sequence[str], parameters: Mapping[str, str], only: Collection[str] = ()) -> list[Result]:
        """Check everything, deploy, run the jobs up to the first that fails, and keep what happened."""
        from bundle_laptop.spark import keep_views, spark_in

        plan = make_plan(self.resolver, jobs)
        for job in jobs:
            check_parameters(plan, job, parameters)
            if unknown := [task for task in only if task not in plan.jobs[job].tasks]:
                raise LaptopError(f"--only {unknown[0]}: job {job} has {', '.join(plan.jobs[job].tasks)}")
        if self.settings.check:
            check_arguments(plan, parameters, self.settings.check, self.settings.user_errors)
        results = list[Result]()
        runner = Runner(
            plan=plan,
            folder=self.folder,
            console=self.console,
            on_ended=self._keep,
            user_errors=self.settings.user_errors,
            only=only,
        )
        with locked(self.folder):
            with live_line(self.console, "deploy"):
                self._deploy(plan)
            with spark_in(self.folder, plan.deployment.schemas):
                for job in jobs:
                    results.append(runner.run(job, parameters))
                    if results[-1].state is State.FAILED:
                        break
                keep_views(self.folder)
        self.console.print(summary(results, jobs[len(results) :]))
        return results

    def deploy(self) -> None:
        """Make what the bundle's jobs need."""
        self._deploy(self._whole_plan())

    def look(self, files: Sequence[Path], widgets: Mapping[str, str]) -> Iterator[Path]:
        """Run notebooks one after the other; the page of each. Raises LaptopError for the first that failed."""
        from pyspark.sql import SparkSession

        from bundle_laptop.notebook import kernel_in, read_notebook, run_notebook, widgets_of
        from bundle_laptop.spark import spark_in

        declared = {name for file in files for name in widgets_of(read_notebook(file))}
        if unknown := [name for name in widgets if name not in declared]:
            known = ", ".join(sorted(declared)) or "none"
            raise LaptopError(f"--widget {unknown[0]}: no such widget; there are {known}")
        task = self.folder / "notebooks" / "task"
        give(task, {**option_values(self._whole_plan()), **widgets}, {})
        with spark_in(self.folder):
            SparkSession.builder.getOrCreate()  # the kernel shares it
            with kernel_in(files[0].parent) as kernel:
                for file in files:
                    self.console.print(f"{file.stem}: running", highlight=False)
                    ended = run_notebook(file, self.folder / "notebooks" / f"{file.stem}.html", task, kernel)
                    if ended.failure:
                        raise LaptopError(f"{file.name}: {ended.failure}; see {ended.page}")
                    yield ended.page

    def served(self) -> Iterator[str]:
        """What each endpoint serves, with a line that asks it. Raises LaptopError if none serves anything."""
        from databricks.sdk import WorkspaceClient

        client = WorkspaceClient()
        serving = [endpoint for endpoint in client.serving_endpoints.list() if endpoint.config]
        if not serving:
            raise LaptopError("no endpoint serves a version yet; run the job that releases one: laptop run <job>")
        for endpoint in serving:
            detail = client.serving_endpoints.get(str(endpoint.name))
            traffic = detail.config.traffic_config if detail.config else None
            routes = (traffic.routes if traffic else None) or []
            shares = ", ".join(f"{route.served_model_name} {route.traffic_percentage} %" for route in routes)
            yield f"{endpoint.name} serves {shares} at {self.address}. Ask it:\n"
            yield (
                f"curl {self.address}/serving-endpoints/{endpoint.name}/invocations -H 'Authorization: Bearer local' "
                f"-H 'Content-Type: application/json' -d {shlex.quote(_example(detail))}\n"
            )

    def execute(self, command: Sequence[str]) -> int:
        """The exit code of an installed program, run in this process with the references in its arguments resolved."""
        from bundle_laptop.spark import spark_in

        name, *given = command
        whole = [*shlex.split(self.settings.commands.get(name, shlex.quote(name))), *given]
        # To run the bundle's Python takes seconds: mutators change no names, and other references don't need it at all.
        resolver = self.named if any("${resources." in text for text in whole) else self.written
        program, *arguments = [str(resolver.resolve(text, ("commands", name))) for text in whole]
        found = [point for point in entry_points(group="console_scripts") if point.name == program]
        module = arguments[1] if program == "python" and arguments[:1] == ["-m"] and arguments[1:] else ""
        if not found and not module:
            known = ", ".join(self.settings.commands)
            known = f"; commands of pyproject.toml: {known}" if known else ""
            raise LaptopError(f"exec: {program} is no program of an installed package{known}")
        called = called_as(module, arguments[2:]) if module else called_as(program, arguments)
        try:
            with spark_in(self.folder), called:
                answer = _run_module(module) if module else found[0].load()()
        except SystemExit as end:
            answer = end.code
        if answer is None or isinstance(answer, int):
            return answer or 0
        print(answer, file=sys.stderr)  # as the interpreter does
        return 1

    def _whole_plan(self) -> Plan:
        return make_plan(self.resolver, self.bundle.map_at(("resources", "jobs")))

    def _deploy(self, plan: Plan) -> None:
        def text(value: str) -> str:
            return str(self.resolver.resolve(value, ("tool", "bundle-laptop", "secrets")))

        deploy(plan.deployment, self.folder, {text(key): text(value) for key, value in self.settings.secrets.items()})
        names = {
            key: self.bundle.at(("resources", "jobs", key, "name")) for key in self.bundle.map_at(("resources", "jobs"))
        }
        jobs = {_id_of(key): {"key": key, "name": str(name or key)} for key, name in names.items()}
        write_atomically(self.folder / "api" / "jobs.json", json.dumps(jobs, indent=1))

    def _keep(self, job: str, run_id: str, started: datetime, result: Result) -> None:
        """The run, as the API shows it."""
        tasks = [
            {
                "task_key": task.name,
                "state": {**_ended(task), "state_message": task.note},
                "attempt_number": max(task.attempts - 1, 0),
                "execution_duration": int(task.seconds * 1000),
            }
            for task in result.inner
        ]
        record = {
            "run_id": int(run_id),
            "job_id": _id_of(job),
            "run_name": job,
            "start_time": int(started.timestamp() * 1000),
            "end_time": time.time_ns() // 1_000_000,
            "state": _ended(result),
            "tasks": tasks,
        }
        write_atomically(self.folder / "api" / "runs" / f"{run_id}.json", json.dumps(record, indent=1))


@contextmanager
def opened(
    root: Path,
    target: str | None,
    variables: Mapping[str, str],
    console: Console,
    *,
    port: int = 0,
    load_seconds: float = 0,
) -> Iterator[Session]:
    """The bundle in `root`, and its world's API, for as long as the context lasts.

    The API is that of `laptop serve`, if it runs for this world; otherwise one of its own, on `port` or a free one. It
    takes `load_seconds` more to load a version.
    """
    bundle = load_bundle(root, target)
    folder, settings = made(world_of(root, bundle.target)), read_settings(root)
    resolver = Resolver(bundle=bundle, folder=folder, variables=variables, configured=settings.variables)
    with entered(folder), _served(folder, port, load_seconds) as address, environment_of(api.environment(address)):
        yield Session(written=resolver, settings=settings, console=console, address=address)


@contextmanager
def _served(folder: Path, port: int, load_seconds: float) -> Iterator[str]:
    running = api.running_address(folder)
    if running and not port:
        yield running
        return
    store = os.environ.get(STORE_VARIABLE)

    def load(name: str, version: int, environment: Mapping[str, str]) -> Scorer:
        time.sleep(load_seconds)
        return load_version(name, version, environment)

    with api.serve_workspace(folder, port=port, publish=bool(port), online_store=store, loader=load) as address:
        yield address


def _run_module(name: str) -> int:
    sys.path.insert(0, "")  # as python -m does
    try:
        runpy.run_module(name, run_name="__main__")
    finally:
        sys.path.remove("")
    return 0


def _example(endpoint: "ServingEndpointDetailed") -> str:
    """A request that the endpoint's first version has brought with it."""
    from mlflow.artifacts import load_text

    entities = endpoint.config.served_entities if endpoint.config else None
    for entity in entities or ():
        with suppress(Exception):  # a version need not have one
            example = load_text(f"models:/{entity.entity_name}/{entity.entity_version}/serving_input_example.json")
            return json.dumps(json.loads(example))  # in one line
    return '{"dataframe_records": [{}]}'


def _id_of(job: str) -> int:
    """The number by which the API knows a job of the bundle, whatever jobs there are beside it."""
    return crc32(job.encode())


def _ended(result: Result) -> dict[str, str]:
    return {"life_cycle_state": "TERMINATED", "result_state": result.state.value}
