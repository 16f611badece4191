"""What a deploy would change, and whether it may: `databricks bundle plan -o json`, read before it is deployed."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flight_delays.core.errors import UserError

LOST = {
    "alerts": "the alert and its history",
    "dashboards": "the dashboard, with what was edited in the workspace",
    "experiments": "all its runs with their metrics and files",
    "jobs": "the history of its runs; a run in progress ends",
    "model_serving_endpoints": "callers get no answer until a version is released to the new one",
    "postgres_branches": "all its data",
    "postgres_databases": "all its data",
    "postgres_projects": "all its data; it can be restored for some days",
    "postgres_roles": "its password and grants",
    "postgres_synced_tables": "nothing for good: it is copied from its Delta table again, and empty until then",
    "registered_models": "all versions, aliases and tags",
    "schemas": "all its tables with their history, volumes and models",
    "secret_scopes": "all its secrets",
    "volumes": "all its files; the stream starts from the beginning",
}
"""What a delete takes along, by kind of resource."""
_NO_PLAN = "this is no plan of a known format; make it by `databricks bundle plan -t <target> -o json`"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to the resource `key`, like jobs.train: create, update, delete, recreate or resize.

    `fields` are those that differ.
    """

    key: str
    action: str
    fields: tuple[str, ...] = ()

    @property
    def loss(self) -> str | None:
        """What it takes along, if it takes a resource away. Permissions and grants are part of another resource."""
        kind, _, name = self.key.partition(".")
        if self.action not in ("delete", "recreate") or "." in name:
            return None
        return LOST.get(kind, "the resource")


def read_plan(text: str) -> dict[str, Any]:
    """The plan in a text. Raises UserError if it is no JSON object."""
    try:
        plan = json.loads(text)
    except ValueError:
        plan = None
    if not isinstance(plan, dict):
        raise UserError(_NO_PLAN)
    return plan


def changes_of(plan: Mapping[str, Any]) -> tuple[Change, ...]:
    """All changes of a plan, in its order. Raises UserError for what is no plan of a known format."""
    entries = plan.get("plan")
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and "action" in entry for entry in entries.values()
    ):
        raise UserError(_NO_PLAN)
    return tuple(
        Change(
            key=key.removeprefix("resources."),
            action=entry["action"],
            fields=tuple(name for name, field in entry.get("changes", {}).items() if field.get("action") != "skip"),
        )
        for key, entry in entries.items()
        if entry["action"] != "skip"
    )


def refused(changes: Sequence[Change], allowed: Collection[str]) -> list[str]:
    """A line for each change that takes a resource away and is not `allowed` by its key.

    Raises UserError for a key that is allowed and that nothing happens to: it is misspelt, or left over.
    """
    losses = {change.key: change for change in changes if change.loss}
    if surplus := sorted({*allowed} - {*losses}):
        raise UserError(f"--allow {surplus[0]}: the plan takes no such resource away; remove the option")
    return [
        f"{key} would be {'recreated' if change.action == 'recreate' else 'deleted'}, and with it {change.loss}"
        for key, change in losses.items()
        if key not in allowed
    ]
