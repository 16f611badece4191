"""The Delta tables that a workspace itself writes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bundle_laptop.api.endpoints_api import Config

if TYPE_CHECKING:
    import pyarrow as pa

SERVED_ENTITIES = "spark_catalog.system_serving.served_entities"


def location(folder: Path, table: str) -> Path:
    """Where a table, named <catalog>.<schema>.<table>, lies in the world; Spark's folders are in lower case."""
    _, schema, name = table.lower().split(".")
    return folder / "warehouse" / f"{schema}.db" / name


def create(folder: Path, table: str, schema: "pa.Schema", description: str) -> None:
    """Make an empty table, unless there is one."""
    from deltalake import DeltaTable

    DeltaTable.create(location(folder, table), schema, mode="ignore", description=description)


def append(folder: Path, table: str, rows: "pa.Table") -> None:
    """Append rows to a table, which is made if it does not exist."""
    from deltalake import write_deltalake

    write_deltalake(location(folder, table), rows, mode="append")


def record_served_entities(folder: Path, endpoint: str, config: Config, version: int, ids: Mapping[str, str]) -> None:
    """Append a configuration to the world's system.serving.served_entities; `ids` are by the entities' names.

    It has those of the columns that are known on a laptop:
    https://learn.microsoft.com/azure/databricks/admin/system-tables/model-serving-cost
    """
    import pyarrow as pa

    texts = ("served_entity_id", "endpoint_name", "served_entity_name", "entity_type", "entity_name", "entity_version")
    numbers = [("endpoint_config_version", pa.int64()), ("change_time", pa.timestamp("us", tz="UTC"))]
    rows = [
        {
            "served_entity_id": ids[entity.name],
            "endpoint_name": endpoint,
            "served_entity_name": entity.name,
            "entity_type": "CUSTOM_MODEL",
            "entity_name": entity.entity_name,
            "entity_version": entity.entity_version,
            "endpoint_config_version": version,
            "change_time": datetime.now(tz=UTC),
        }
        for entity in config.served_entities
    ]
    schema = pa.schema([*((name, pa.string()) for name in texts), *numbers])
    append(folder, SERVED_ENTITIES, pa.Table.from_pylist(rows, schema))
