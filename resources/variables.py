"""What the variables of databricks.yml may be: a value that can't work is refused whenever the bundle is read.

Those that tasks take are declared in core/settings.py, those of the bundle alone here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from databricks.bundles.core import Bundle, Resources
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from flight_delays.core.settings import AVAILABLE_NOW, TASKS, Count, Text, Truth, settings_of, value_of


def _name(text: str) -> str:
    # https://docs.databricks.com/sql/language-manual/sql-ref-names
    if not re.fullmatch(r"[^ ./\x00-\x1f\x7f]{1,255}", text):
        raise ValueError("should be a name of Unity Catalog: 1 to 255 characters, no dot, space or slash")
    return text


def _application(text: str) -> str:
    if text and not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise ValueError("should be an application id like 01234567-89ab-cdef-0123-456789abcdef")
    return text


def _project(text: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9-]{0,62}", text):
        raise ValueError("should be lower-case letters, digits and hyphens, a letter first, 63 at most")
    return text


def _folder(text: str) -> str:
    if not text.startswith("/") or text == "/Users/":
        raise ValueError("should be a folder of the workspace like /Shared/experiments; is service_principal missing?")
    return text


Name = Annotated[str, AfterValidator(_name)]
Entries = list[dict[str, Any]]  # Databricks' own types say what may be in them
Seconds = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class OfTheBundle:
    """The variables that no task takes."""

    catalog: Name = Field(description="Catalog that this target writes to.")
    schema: Name = Field(description="Schema that this target writes to; development mode adds a prefix of its own.")
    raw_catalog: Name = Field(
        description="Catalog that raw tables are read from. To let dev read production's, set this and raw_schema."
    )
    raw_schema: Name = Field(
        description="Schema that raw tables are read from; default: the one that this target writes to."
    )
    service_principal: Annotated[str, AfterValidator(_application)] = Field(
        description="Application id of the service principal that deploys and runs staging and prod; give it as "
        "BUNDLE_VAR_service_principal. Never needed for dev."
    )
    experiment_folder: Annotated[str, AfterValidator(_folder)] = Field(
        description="Where the experiment lives; a folder that exists and stays the same whoever deploys."
    )
    viewers_group: Text = Field(description="Group that may look at jobs, experiment, tables and models.")
    operators_group: Text = Field(
        description="Group on call, itself in the viewers' group; it may also run, cancel and repair jobs."
    )
    schema_grants: Entries = Field(description="Who may read the tables.")
    model_grants: Entries = Field(description="Who may load the model.")
    checkpoints_grants: Entries = Field(description="Who may look at the state of streaming queries.")
    secret_scope: Text = Field(
        description="Secrets that the endpoint reads. Development mode does not prefix its name."
    )
    secret_permissions: Entries = Field(
        description="Who may set secrets, and so read them; READ alone is taken away, see resources/mutators.py."
    )
    prevent_destroy: Truth = Field(
        description="Whether a deploy refuses to drop or recreate what lasts: the schema, the volume, the model, "
        "the experiment, the endpoint, the secret scope and the online store."
    )
    deployment_folder: Text = Field(
        description="Where the CLI keeps this deployment, known to resources/mutators.py by this; leave it as it is."
    )
    notification_email: Text = Field(
        description="Where a failed or slow job and an open incident are reported; for the latter it has to be the "
        "e-mail address of a user of the workspace."
    )
    schedule_pause_status: Literal["PAUSED", "UNPAUSED"] = Field(
        description="For every schedule. Development mode pauses them in any case."
    )
    warehouse_id: Text = Field(
        description="Id of the SQL warehouse, serverless or pro, that evaluates the alert and fills the dashboard; "
        "looked up by name unless given. Not needed on a laptop."
    )
    compute: dict[Literal["environment_key", "environments", "job_cluster_key", "job_clusters", "libraries"], Any] = (
        Field(description="What every job runs on: ${var.serverless} or ${var.job_cluster}.")
    )
    serverless: dict[str, Any] = Field(
        description="Databricks' own compute. A new environment_version brings other libraries."
    )
    job_cluster: dict[str, Any] = Field(
        description="A cluster that one run of a job starts, shares among its tasks and ends; dedicated to whoever "
        "the job runs as. No init script is needed: the wheel brings what the runtime lacks."
    )
    cluster_node_type: Text = Field(description="Azure's name of a job cluster's machines.")
    cluster_min_workers: Count = Field(description="How many workers a job cluster keeps.")
    cluster_max_workers: Count = Field(description="How many workers a job cluster may grow to.")
    serving_endpoint: Text = Field(
        description="Where the release jobs serve versions: the bundle's endpoint, or an address like "
        "kubernetes://scoring/delay (docs/kubernetes.md)."
    )
    serving_calls_per_minute: Count = Field(
        description="How many requests the endpoint takes per minute, of all callers; then 429."
    )
    serving_route_optimized: Truth = Field(
        description="Whether the endpoint has a route of its own: faster, and not within the 200 requests/s that a "
        "workspace shares, but callers sign in by OAuth alone. A change recreates the endpoint."
    )
    online_project: Annotated[str, AfterValidator(_project)] = Field(
        description="Name of the Lakebase project, lower-case; unique in a workspace."
    )
    online_database: dict[Literal["projects", "branches", "roles", "databases", "synced_tables"], Any] = Field(
        description="Whether there is an online store: ${var.no_database} or ${var.lakebase}."
    )
    no_database: dict[str, Any] = Field(description="No online store.")
    lakebase: dict[str, Any] = Field(
        description="A Lakebase database with two synced tables, see resources/online_store.yml."
    )
    stream_timeout_seconds: Seconds = Field(
        description="The longest that a run of the stream may take, s; 0 for no end."
    )
    stream_duration_warning_seconds: Seconds = Field(
        description="A run of the stream that takes longer is reported, s."
    )


def declared() -> dict[str, FieldInfo]:
    """Every variable of the bundle, by name."""
    of_tasks = {name: one for types in TASKS.values() for name, one in settings_of(*types).items()}
    return {**of_tasks, **settings_of(OfTheBundle)}


def load(bundle: Bundle) -> Resources:
    """No resource; an error for each variable whose value can't work."""
    resources = Resources()
    for line in [*problems(bundle.variables)] or conflicts(bundle.variables):
        resources.add_diagnostic_error(line)
    return resources


def problems(variables: Mapping[str, object]) -> Iterator[str]:
    """A line for each variable whose value can't work."""
    known = declared()
    for name, value in variables.items():
        if name not in known:
            yield f"variables.{name}: not declared; say in resources/variables.py what it is"
        elif not _is_reference(value):
            try:
                value_of(known[name], value)
            except ValueError as error:
                yield (
                    f"variables.{name}: {str(value)!r} {error}; it is set in databricks.yml, by --var or in "
                    f"BUNDLE_VAR_{name}"
                )


def conflicts(variables: Mapping[str, Any]) -> Iterator[str]:
    """A line for values that can't work together."""
    compute = variables["compute"]
    if isinstance(compute, dict) and compute.get("environment_key") and variables["stream_trigger"] != AVAILABLE_NOW:
        yield (
            f"variables.stream_trigger: {variables['stream_trigger']!r} runs until stopped, which serverless jobs do "
            "not support; set compute to ${var.job_cluster}, or stream_trigger to available_now"
        )
    database = variables["online_database"]
    if str(variables["online_store"]).lower() == "true" and isinstance(database, dict) and not database["projects"]:
        yield "variables.online_store: true, and there is none; set online_database to ${var.lakebase}"
    if int(variables["cluster_min_workers"]) > int(variables["cluster_max_workers"]):
        yield "variables.cluster_min_workers: more than cluster_max_workers; swap them"


def _is_reference(value: object) -> bool:
    """Whether it is filled in later, by the deployment or by a run."""
    return isinstance(value, str) and ("${" in value or "{{" in value)


FILE = "docs/settings.md"
_HEAD = """# Settings

Every variable of the bundle. `databricks.yml` has the value for a released target, and a target's own values; for one
command `--var name=value` or `BUNDLE_VAR_name` gives another, except for lists and maps, which a target sets. A value
that can't work is refused whenever the bundle is read (`databricks bundle validate`, `deploy`, `run`, `laptop run`),
before anything starts.

Generated from `src/flight_delays/core/settings.py`, `resources/variables.py`, `databricks.yml` and `resources/*.yml` by
`python -m resources.variables`; a test checks that it is current.

| variable | value | what it means | refused, for example |
|---|---|---|---|
"""


def defaults(root: Path = Path()) -> dict[str, object]:
    """What the bundle's files say of each variable: its value, or what it is looked up by."""
    import yaml  # not where the Databricks CLI runs this

    files = [root / "databricks.yml", *sorted((root / "resources").glob("*.yml"))]
    trees = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    variables = {name: one for tree in trees for name, one in tree.get("variables", {}).items()}
    return {name: one.get("default", one.get("lookup")) for name, one in variables.items()}


def page(defaults: Mapping[str, object]) -> str:
    """The variables as a table in Markdown, each with its default and with a value that is refused."""
    known = declared()
    rows = (
        f"| `{name}` | {_cell(default)} | {known[name].description} | `{json.dumps(wrong)}`: {why} |"
        for name, default in defaults.items()
        for wrong, why in [refused(known[name])]
    )
    return _HEAD + "\n".join(rows) + "\n"


def refused(setting: FieldInfo) -> tuple[object, str]:
    """A value that can't work, and what is said of it."""
    for wrong in (-1, 0, "many") if setting.annotation in (int, float) else ("maybe", "", "a b"):
        try:
            value_of(setting, wrong)
        except ValueError as error:
            return wrong, str(error).replace("|", "\\|")
    raise ValueError(f"{setting.description}: everything is taken")


def _cell(default: object) -> str:
    if default is None:
        return "each target's own"
    return f"`{json.dumps(default)}`" if not isinstance(default, dict | list) else "see its file"


if __name__ == "__main__":
    Path(FILE).write_text(page(defaults()), encoding="utf-8")
