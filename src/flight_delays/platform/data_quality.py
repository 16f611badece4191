"""Databricks' own data quality monitoring of tables: profiles and a dashboard, beside this project's signals.

https://docs.databricks.com/data-quality-monitoring
"""

from collections.abc import Iterator, Mapping

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import AlreadyExists, NotFound, ResourceAlreadyExists
from databricks.sdk.service.dataquality import (
    AggregationGranularity,
    DataProfilingConfig,
    InferenceLogConfig,
    InferenceProblemType,
    Monitor,
    TimeSeriesConfig,
)

from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import PREDICTION_TIME
from flight_delays.core.objective import BinaryClassification, Objective
from flight_delays.platform.sdk_errors import one_line

_DAILY = [AggregationGranularity.AGGREGATION_GRANULARITY_1_DAY]


def profile_tables(client: WorkspaceClient, schema: str, objective: Objective) -> Iterator[tuple[str, str]]:
    """Let features and predictions in <catalog>.<schema> be profiled by day; yields each table and what was done.

    Idempotent: a monitor that is there stays as it is. Raises UserError for what the workspace refuses.
    """
    for name, config in _configs(objective).items():
        table = f"{schema}.{name}"
        try:
            config.output_schema_id = client.schemas.get(schema).schema_id or ""
            found = client.tables.get(table)
            client.data_quality.create_monitor(
                Monitor(object_type="table", object_id=found.table_id or "", data_profiling_config=config)
            )
        except (AlreadyExists, ResourceAlreadyExists):
            yield table, "is monitored already"
        except NotFound as error:
            raise UserError(f"{table} cannot be monitored: {one_line(error)}; run the features job first") from error
        except OSError as error:
            raise UserError(f"{table} cannot be monitored: {one_line(error)}; fix that and run it again") from error
        else:
            yield table, "is monitored from now on"


def _configs(objective: Objective) -> Mapping[str, DataProfilingConfig]:
    """By table. The schema that the results go to is not known yet."""
    is_binary = isinstance(objective, BinaryClassification)
    predictions = InferenceLogConfig(
        problem_type=InferenceProblemType.INFERENCE_PROBLEM_TYPE_CLASSIFICATION
        if is_binary
        else InferenceProblemType.INFERENCE_PROBLEM_TYPE_REGRESSION,
        timestamp_column=PREDICTION_TIME,
        granularities=_DAILY,
        prediction_column="prediction",
        model_id_column="model_version",
    )
    features = TimeSeriesConfig(timestamp_column=PREDICTION_TIME, granularities=_DAILY)
    return {
        "features": DataProfilingConfig(output_schema_id="", time_series=features),
        "predictions": DataProfilingConfig(output_schema_id="", inference_log=predictions),
    }
