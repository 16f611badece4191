"""What each commit deployed: a folder with its wheel, which its jobs and their runs read."""

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.workspace import ObjectType

FOLDER = "artifacts"


def superseded(deployed: Mapping[str, datetime], in_use: Collection[str], before: datetime) -> list[str]:
    """Those not `in_use` that a later one took the place of before that moment; the oldest first."""
    in_order = sorted(deployed, key=deployed.__getitem__)
    return [old for old, new in pairwise(in_order) if deployed[new] < before and old not in in_use]


def remove_old(client: WorkspaceClient, bundle: Mapping[str, Any], before: datetime) -> list[str]:
    """Remove, and return, the folders that were superseded before that moment, and before each run in progress began.

    A folder that a job's settings name stays. `bundle` is as platform/target.py reads it.
    """
    folder = PurePosixPath(bundle["workspace"]["artifact_path"]).parent
    if folder.name != FOLDER:  # deployed from no commit: there is one folder
        return []
    deployed = {}
    for commit in client.workspace.list(str(folder)):
        if commit.object_type == ObjectType.DIRECTORY and commit.path:
            files = [one.modified_at for one in client.workspace.list(commit.path, recursive=True) if one.modified_at]
            if files:  # else a deploy is about to fill it
                deployed[commit.path] = datetime.fromtimestamp(max(files) / 1000, UTC)
    begun = [run.start_time for run in client.jobs.list_runs(active_only=True) if run.start_time]
    needed = min([before, *(datetime.fromtimestamp(each / 1000, UTC) for each in begun)])
    names = [job["name"] for job in bundle["resources"]["jobs"].values()]
    jobs = [client.jobs.get(one.job_id) for name in names for one in client.jobs.list(name=name) if one.job_id]
    settings = json.dumps([job.as_dict() for job in jobs])
    in_use = [path for path in deployed if f"/{FOLDER}/{PurePosixPath(path).name}/" in settings]
    removed = superseded(deployed, in_use, needed)
    for path in removed:
        client.workspace.delete(path, recursive=True)
    return removed
