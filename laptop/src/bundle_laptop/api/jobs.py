"""Jobs and their runs: https://docs.databricks.com/api/workspace/jobs

Definitions lie in api/jobs.json, `{"<id>": {"key": ..., "settings": {...}}}`, runs in api/runs/<run id>.json; others
write them too, so they are read anew for each request. Nothing runs here: `run_now` is for the caller to give, or
refused, and so is all else that would start, repair or cancel a run. Schedules and triggers start nothing.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field, RootModel

from bundle_laptop.api.state import StateFile, read_json
from bundle_laptop.api.web import ApiError, Body, Request, Route, Tree, invalid, missing

RunNow: TypeAlias = Callable[[str, Mapping[str, str]], int]
"""Starts a run of the job of a key, with values of its parameters; the run's id."""

_LIST_KEYS = {
    "tasks": "task_key",
    "job_clusters": "job_cluster_key",
    "environments": "environment_key",
    "parameters": "name",
}
"""Lists in a job's settings that are merged by a key."""

_ACTIVE = ("QUEUED", "PENDING", "RUNNING", "TERMINATING", "BLOCKED", "WAITING_FOR_RETRY")
_MOST_JOBS, _MOST_RUNS = 100, 25
_REFUSED = ("runs/cancel", "runs/cancel-all", "runs/delete", "runs/repair", "runs/submit")


class _Update(Body):
    job_id: int
    new_settings: Mapping[str, Any] = Field(default_factory=dict)
    fields_to_remove: tuple[str, ...] = ()


class _Reset(Body):
    job_id: int
    new_settings: Mapping[str, Any]


class _JobOnly(Body):
    job_id: int


class _RunNow(Body):
    job_id: int
    job_parameters: Mapping[str, str] = Field(default_factory=dict)


class Jobs:
    """The jobs of one world."""

    def __init__(self, folder: Path, run_now: RunNow | None = None) -> None:
        self._file, self._runs, self._start = StateFile(folder / "api/jobs.json", "job"), folder / "api/runs", run_now

    def routes(self) -> list[Route]:
        """What this answers, to the SDK of today (2.2) and of before (2.1)."""
        routes: list[Route] = [
            ("GET", "list", self._list),
            ("GET", "get", self._get),
            ("POST", "create", self._create),
            ("POST", "update", self._update),
            ("POST", "reset", self._reset),
            ("POST", "delete", self._delete),
            ("POST", "run-now", self._run_now),
            ("GET", "runs/list", self._list_runs),
            ("GET", "runs/get", self._get_run),
            *(("POST", path, _refused) for path in _REFUSED),
        ]
        versions = ("2.2", "2.1")
        return [
            (method, f"/api/{version}/jobs/{path}", handler) for version in versions for method, path, handler in routes
        ]

    def _list(self, request: Request) -> Tree:
        wanted = request.query.get("name", "").lower()
        jobs = self._file.read()
        ids = [key for key in sorted(jobs, key=int) if wanted in ("", _name(jobs[key]).lower())]
        page, more = _page(ids, request, _MOST_JOBS)
        expand = request.flag("expand_tasks")
        return {"jobs": [_shown(key, jobs[key], expand=expand) for key in page], **more}

    def _get(self, request: Request) -> Tree:
        key = str(request.number("job_id", 0))
        return _shown(key, self._file.entry(key))

    def _create(self, request: Request) -> Tree:
        settings = request.body(RootModel[dict[str, Any]]).root
        if not settings.get("tasks"):
            raise invalid("tasks: a job has at least one")

        def create(jobs: Tree) -> str:
            key = str(max(map(int, jobs), default=0) + 1)
            jobs[key] = {"key": key, "settings": settings, "created_time": int(time.time() * 1000)}
            return key

        return {"job_id": int(self._file.change(create))}

    def _update(self, request: Request) -> Tree:
        body = request.body(_Update)

        def update(jobs: Tree) -> None:
            job = self._file.entry(str(body.job_id), jobs)
            job["settings"] = merged(job["settings"], body.new_settings, body.fields_to_remove)

        self._file.change(update)
        return {}

    def _reset(self, request: Request) -> Tree:
        body = request.body(_Reset)
        self._file.change(lambda jobs: self._file.entry(str(body.job_id), jobs).update(settings=body.new_settings))
        return {}

    def _delete(self, request: Request) -> Tree:
        self._file.remove(str(request.body(_JobOnly).job_id))
        return {}

    def _run_now(self, request: Request) -> Tree:
        body = request.body(_RunNow)
        key = self._file.entry(str(body.job_id))["key"]
        if self._start is None:
            raise ApiError(400, "INVALID_STATE", f"run it by: laptop run {key}")
        return {"run_id": self._start(key, body.job_parameters), "number_in_job": 1}

    def _list_runs(self, request: Request) -> Tree:
        runs = [run for run in self._read_runs() if _is_asked(run, request)]
        runs.sort(key=lambda run: (run.get("start_time", 0), run["run_id"]), reverse=True)
        page, more = _page(runs, request, _MOST_RUNS)
        expand = request.flag("expand_tasks")
        return {"runs": [run if expand else {**run, "tasks": []} for run in page], **more}

    def _get_run(self, request: Request) -> Tree:
        wanted = request.number("run_id", 0)
        for run in self._read_runs():
            if run["run_id"] == wanted:
                return run
        raise missing(f"there is no run {wanted}")

    def _read_runs(self) -> Iterable[Tree]:
        for file in self._runs.glob("[0-9]*.json"):
            yield {**read_json(file), "creator_user_name": "local", "run_type": "JOB_RUN"}


def merged(settings: Mapping[str, Any], new: Mapping[str, Any], remove: Iterable[str] = ()) -> Tree:
    """A job's settings after an update: top-level fields are replaced, lists merged by the key of their entries."""
    result = {**settings, **{name: _merged_list(name, settings.get(name), value) for name, value in new.items()}}
    for path in remove:
        name, _, entry = path.partition("/")
        if entry:
            result[name] = [each for each in result.get(name, ()) if each.get(_LIST_KEYS.get(name, "")) != entry]
        else:
            result.pop(name, None)
    return result


def _merged_list(name: str, old: object, new: object) -> object:
    key = _LIST_KEYS.get(name)
    if key is None or not isinstance(old, list) or not isinstance(new, list):
        return new
    return list({each.get(key): each for each in (*old, *new)}.values())


def _page(found: list[Any], request: Request, most: int) -> tuple[list[Any], Tree]:
    """The asked page, and whether there are more; a token is where the next one starts."""
    start = request.number("page_token", request.number("offset", 0))
    end = start + (min(request.number("limit", 20), most) or most)
    has_more = end < len(found)
    return found[start:end], {"has_more": has_more, **({"next_page_token": str(end)} if has_more else {})}


def _shown(key: str, job: Tree, *, expand: bool = True) -> Tree:
    settings = (
        job["settings"]
        if expand
        else {name: job["settings"][name] for name in job["settings"] if name not in _LIST_KEYS}
    )
    created = job.get("created_time", 0)
    return {"job_id": int(key), "creator_user_name": "local", "created_time": created, "settings": settings}


def _name(job: Tree) -> str:
    return str(job["settings"].get("name", ""))


def _is_asked(run: Tree, request: Request) -> bool:
    started, active = run.get("start_time", 0), run.get("state", {}).get("life_cycle_state") in _ACTIVE
    return (
        run.get("job_id") == request.number("job_id", run.get("job_id", 0))
        and (active or not request.flag("active_only"))
        and not (active and request.flag("completed_only"))
        and request.number("start_time_from", started) <= started <= request.number("start_time_to", started)
    )


def _refused(request: Request) -> Tree:
    raise invalid(f"{request.path}: the laptop's workspace API runs nothing; use laptop run, and Ctrl-C to end it")
