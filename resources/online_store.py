"""The online store in Lakebase: a database and, synced into it, what the endpoint looks up.

Python, because a file of YAML can't be left out: all of it is deployed only where the variable `online_store` is true.
"""

from databricks.bundles.core import Bundle, Resources, Variable
from databricks.bundles.database_instances import DatabaseInstance, Lifecycle
from databricks.bundles.synced_database_tables import Lifecycle as TableLifecycle
from databricks.bundles.synced_database_tables import (
    NewPipelineSpec,
    SyncedDatabaseTable,
    SyncedTableSchedulingPolicy,
    SyncedTableSpec,
)

CATALOG, SCHEMA = "${var.catalog}", "${resources.schemas.flights.name}"
PREVENT_DESTROY = Variable(path="var.prevent_destroy", type=bool)


def load(bundle: Bundle) -> Resources:
    """All resources, or none."""
    resources = Resources()
    if bundle.variables["online_store"] not in (True, "true"):  # what BUNDLE_VAR_online_store gives is a text
        return resources
    # The smallest there is. With password login: a token would end within the hour, and the secret with it.
    database = DatabaseInstance(
        name="${var.online_store_instance}",
        capacity="CU_1",
        enable_pg_native_login=True,
        lifecycle=Lifecycle(prevent_destroy=PREVENT_DESTROY),
    )
    resources.add_resource("online_database", database)
    # The newest of each entity, updated as its table changes once it has been synced.
    resources.add_resource("online_features", _synced("features", timeseries_key="prediction_ts"))
    resources.add_resource("online_predictions", _synced("predictions", timeseries_key="scored_at"))
    return resources


def _synced(table: str, *, timeseries_key: str) -> SyncedDatabaseTable:
    return SyncedDatabaseTable(
        name=f"{CATALOG}.{SCHEMA}.{table}_online",
        database_instance_name="${resources.database_instances.online_database.name}",
        logical_database_name="flight_delays",
        spec=SyncedTableSpec(
            source_table_full_name=f"{CATALOG}.{SCHEMA}.{table}",
            primary_key_columns=["entity_id"],
            timeseries_key=timeseries_key,
            scheduling_policy=SyncedTableSchedulingPolicy.TRIGGERED,
            create_database_objects_if_missing=True,
            new_pipeline_spec=NewPipelineSpec(storage_catalog=CATALOG, storage_schema=SCHEMA),
        ),
        lifecycle=TableLifecycle(prevent_destroy=PREVENT_DESTROY),
    )
