"""The online store: there where a variable says so, protected, and of the newest row of each entity."""

from dataclasses import replace
from typing import Any

import pytest

from bundle_laptop.completed import with_kinds
from bundle_laptop.references import Resolver

KINDS = ("projects", "branches", "roles", "databases", "synced_tables")


@pytest.fixture
def written(resolver: Resolver) -> dict[str, dict[str, Any]]:
    """All of its resources where it is chosen, with their references."""
    bundle = resolver.bundle
    variables = bundle.map_at(("variables",)) | {"online_database": {"type": "complex", "default": "${var.lakebase}"}}
    kinds = {f"postgres_{kind}": f"${{var.online_database.{kind}}}" for kind in KINDS}
    chosen = replace(bundle, tree={**bundle.tree, "variables": variables, "resources": kinds})
    found: dict[str, Any] = with_kinds(replace(resolver, bundle=chosen)).bundle.map_at(("resources",))
    return {kind.removeprefix("postgres_"): resources for kind, resources in found.items()}


def test_it_is_not_there_unless_it_is_chosen(resolved: dict[str, Any]) -> None:
    assert [resolved["resources"][f"postgres_{kind}"] for kind in KINDS] == [{}] * len(KINDS)


def test_each_part_is_protected_where_its_target_is(written: dict[str, dict[str, Any]]) -> None:
    parts = [part for kind in KINDS for part in written[kind].values()]
    assert len(parts) == 6
    assert {str(part["lifecycle"]) for part in parts} == {str({"prevent_destroy": "${var.prevent_destroy}"})}
    (branch,) = written["branches"].values()
    assert branch["is_protected"] == "${var.prevent_destroy}"


@pytest.mark.parametrize(
    ("key", "source", "online", "newest_by"),
    [
        ("online_features", "features", "features_online", "prediction_ts"),
        ("online_predictions", "predictions", "predictions_online", "scored_at"),
    ],
)
def test_it_holds_what_is_newest_of_each_entity(
    written: dict[str, dict[str, Any]], key: str, source: str, online: str, newest_by: str
) -> None:
    table, schema = written["synced_tables"][key], "${var.catalog}.${resources.schemas.flights.name}"
    assert (table["synced_table_id"], table["source_table_full_name"]) == (f"{schema}.{online}", f"{schema}.{source}")
    assert (table["primary_key_columns"], table["timeseries_key"]) == (["entity_id"], newest_by)
