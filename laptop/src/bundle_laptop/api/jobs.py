"""Jobs and their runs, to read: https://docs.databricks.com/api/workspace/jobs

A deployment writes the bundle's jobs into api/jobs.json, `{"<id>": {"key": ..., "name": ...}}`, and `laptop run` each
run that has ended into api/runs/<run id>.json. A listing is one page.
"""

from collections.abc import Iterator
from pathlib import Path

from bundle_laptop.api.state import StateFile, read_json
from bundle_laptop.api.web import ApiError, Request, Route, Tree, missing

_API = "/api/2.2/jobs"


class Jobs:
    """The jobs of one world."""

    def __init__(self, folder: Path) -> None:
        self._file, self._folder = StateFile(folder / "api/jobs.json", "job"), folder / "api/runs"

    def routes(self) -> list[Route]:
        """What this answers."""
        return [
            ("GET", f"{_API}/list", self._list),
            ("GET", f"{_API}/get", self._get),
            ("POST", f"{_API}/run-now", _run_now),
            ("GET", f"{_API}/runs/list", self._list_runs),
            ("GET", f"{_API}/runs/get", self._get_run),
        ]

    def _list(self, request: Request) -> Tree:
        wanted, jobs = request.query.get("name", "").lower(), self._file.read()
        return {"jobs": [_shown(key, job) for key, job in jobs.items() if wanted in ("", job["name"].lower())]}

    def _get(self, request: Request) -> Tree:
        key = str(request.number("job_id"))
        return _shown(key, self._file.entry(key))

    def _list_runs(self, request: Request) -> Tree:
        if request.query.get("active_only") == "true":  # a run is written once it has ended
            return {"runs": []}
        job, earliest, latest = map(request.number, ("job_id", "start_time_from", "start_time_to"))
        found = [
            run
            for run in self._runs()
            if job in (None, run["job_id"])
            and (earliest is None or earliest <= run["start_time"])
            and (latest is None or run["start_time"] <= latest)
        ]
        return {"runs": sorted(found, key=lambda run: (run["start_time"], run["run_id"]), reverse=True)}

    def _get_run(self, request: Request) -> Tree:
        wanted = request.number("run_id")
        for run in self._runs():
            if run["run_id"] == wanted:
                return run
        raise missing(f"there is no run {wanted}")

    def _runs(self) -> Iterator[Tree]:
        for file in self._folder.glob("[0-9]*.json"):
            yield {**read_json(file), "creator_user_name": "local", "run_type": "JOB_RUN"}


def _run_now(_: Request) -> Tree:
    raise ApiError(400, "INVALID_STATE", "the laptop's workspace API runs nothing; run it by: laptop run <job>")


def _shown(key: str, job: Tree) -> Tree:
    return {"job_id": int(key), "creator_user_name": "local", "settings": {"name": job["name"]}}
