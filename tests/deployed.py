"""The bundle's jobs as they are deployed: their files, and what resources/jobs.py fills in."""

from pathlib import Path
from typing import Any

import yaml
from databricks.bundles.core import Bundle
from databricks.bundles.jobs import Job
from resources import variables
from resources.jobs import complete

ROOT = Path(__file__).parents[1]
VARIABLES = {name: {"default": value} for name, value in variables.defaults(ROOT).items()}


def deployed(job: dict[str, Any], target: str = "prod") -> dict[str, Any]:
    """A job of a file, completed."""
    return complete.function(Bundle(target=target, variables=VARIABLES), Job.from_dict(numbers(job))).as_dict()


def all_jobs() -> dict[str, dict[str, Any]]:
    """By key."""
    files = (ROOT / "resources").glob("*.job.yml")
    trees = [yaml.safe_load(file.read_text())["resources"]["jobs"] for file in files]
    return {key: deployed(job) for tree in trees for key, job in tree.items()}


def numbers(node: Any) -> Any:
    """With the defaults of variables that are numbers filled in."""
    if isinstance(node, dict):
        return {key: numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [numbers(value) for value in node]
    name = node.removeprefix("${var.").removesuffix("}") if isinstance(node, str) else ""
    default = VARIABLES.get(name, {}).get("default")
    return default if isinstance(default, int) and not isinstance(default, bool) else node
