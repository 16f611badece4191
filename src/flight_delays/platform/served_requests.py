"""What an endpoint's inference table says of the versions that it serves.

Columns: https://docs.databricks.com/ai-gateway/inference-tables
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from flight_delays.core import clocks
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import ENTITY, PREDICTION_TIME
from flight_delays.core.paired import Paired, Version, logged, paired
from flight_delays.core.scoring_request import RequestParser
from flight_delays.core.traffic import NAMES
from flight_delays.core.use_case import UseCase
from flight_delays.platform.delta import Tables, collected
from flight_delays.platform.registry import NotThereError, Registry, signature

REPLAYED = "rollout-replay"  # client_request_id of requests that nobody but a rollout has sent
_MAX_ROWS = 1_000_000  # of one request


@dataclass(frozen=True, kw_only=True)
class Period:
    """From `begin` to before `end`, with time zones, the challenger's configured share was `percentage`."""

    begin: datetime
    end: datetime
    percentage: int

    def __post_init__(self) -> None:
        if self.begin.utcoffset() is None or self.end.utcoffset() is None:
            raise ValueError("a period begins and ends at times with a zone")


@dataclass(frozen=True, kw_only=True)
class Group:
    """How many requests of a period (its place among all) were alike; `ms` is the duration of answered ones only."""

    period: int
    version: int | None
    failed: bool
    ms: int | None
    requests: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What two versions answered, with a split for each period.

    `others` counts the periods' requests that neither version got; `newest` is the time of the newest logged request.
    """

    champion: clocks.Answered
    challenger: clocks.Answered
    splits: tuple[clocks.Split, ...]
    others: int
    newest: datetime | None


def table_named(tables: Tables, name: str) -> DataFrame:
    """The table `<catalog>.<schema>.<table>`. Raises UserError if it does not exist."""
    schema, _, table = name.rpartition(".")
    return tables.of(schema).read(table)


def requests_in(tables: Tables, payload_table: str) -> DataFrame:
    """The requests of callers in an inference table."""
    return table_named(tables, payload_table).where(~F.col("client_request_id").eqNullSafe(REPLAYED))


def with_versions(payloads: DataFrame, entities: DataFrame, model_name: str) -> DataFrame:
    """Payloads with the `model_version` that answered: null for an entity that is none of this model's.

    `entities` has the columns of system.serving.served_entities; of several rows for one entity the newest holds. The
    scoring service's own ids, which stand in no such table, tell the version themselves.
    """
    newest = Window.partitionBy("served_entity_id").orderBy(F.desc("change_time"))
    versions = (
        entities.where(F.col("entity_name") == model_name)
        .withColumn("nth", F.row_number().over(newest))
        .where("nth = 1")
        .select("served_entity_id", F.col("entity_version").cast("int").alias("model_version"))
    )
    own = F.regexp_extract("served_entity_id", f"^(?:{'|'.join(NAMES)})-([0-9]{{1,9}})$", 1)
    told = F.coalesce("model_version", F.when(own != "", own.cast("int")))
    return payloads.join(versions, "served_entity_id", "left").withColumn("model_version", told)


def served(
    tables: Tables,
    payload_table: str,
    served_entities_table: str,
    model_name: str,
    periods: Sequence[Period],
    *,
    champion: int,
    challenger: int,
) -> Measured:
    """What two versions answered in these periods, which don't overlap.

    A status of 500 and more is an error, and so is none: nobody knows of an answer. Other statuses than 200 are no
    answer and have no latency, and a 200 without a duration has none. A request without a time is in no period.
    """
    payloads, time = requests_in(tables, payload_table), F.col("request_time")
    period = F.lit(None).cast("int")
    for nth, one in enumerate(periods):
        period = F.when((time >= F.lit(one.begin)) & (time < F.lit(one.end)), F.lit(nth)).otherwise(period)
    status, ms = F.col("status_code"), F.col("execution_duration_ms")
    within = payloads.withColumn("period", period).where("period IS NOT NULL")
    groups = (
        with_versions(within, table_named(tables, served_entities_table), model_name)
        .groupBy(
            "period",
            F.col("model_version").alias("version"),
            F.coalesce(status >= 500, F.lit(True)).alias("failed"),
            F.when(status == 200, ms).alias("ms"),
        )
        .agg(F.count(F.lit(1)).alias("requests"))
    )
    # Apart: the newest may be in no period, and Delta's statistics tell it without a look at the rows.
    ((newest,),) = (row.values() for row in collected(payloads.agg(F.max(time))))
    found = [Group(**row) for row in collected(groups)]
    return measured(found, periods, champion=champion, challenger=challenger, newest=newest)


def measured(
    groups: Iterable[Group], periods: Sequence[Period], *, champion: int, challenger: int, newest: datetime | None
) -> Measured:
    """The groups of `periods` put together.

    A split's `all` has every request, also those of another version or of an entity that is not known: the endpoint
    gave them to somebody, and one that should have been the challenger's must be missed.
    """
    groups = list(groups)

    def of(version: int) -> clocks.Answered:
        ours = [group for group in groups if group.version == version]
        latencies: Counter[float] = Counter()
        for group in ours:
            if group.ms is not None:
                latencies[float(group.ms)] += group.requests
        return clocks.Answered(
            requests=sum(group.requests for group in ours),
            errors=sum(group.requests for group in ours if group.failed),
            latencies_ms=dict(latencies),
        )

    splits = tuple(
        clocks.Split(
            percentage=period.percentage,
            challenger=sum(one.requests for one in groups if (one.period, one.version) == (nth, challenger)),
            all=sum(one.requests for one in groups if one.period == nth),
        )
        for nth, period in enumerate(periods)
    )
    others = sum(group.requests for group in groups if group.version not in (champion, challenger))
    return Measured(champion=of(champion), challenger=of(challenger), splits=splits, others=others, newest=newest)


def newest_answered(
    tables: Tables,
    payload_table: str,
    served_entities_table: str,
    model_name: str,
    *,
    version: int,
    since: datetime,
    until: datetime,
    limit: int,
) -> DataFrame:
    """`request` and `response` of the newest ones that the version answered from `since` to before `until`."""
    asked = requests_in(tables, payload_table).where(
        (F.col("status_code") == 200) & (F.col("request_time") >= F.lit(since)) & (F.col("request_time") < F.lit(until))
    )
    return (
        with_versions(asked, table_named(tables, served_entities_table), model_name)
        .where(F.col("model_version") == version)
        .orderBy(F.desc("request_time"), "databricks_request_id")
        .limit(limit)
        .select("request", "response")
    )


def both_forecasts(
    requests: DataFrame,
    tables: Tables,
    registry: Registry,
    use_case: UseCase,
    model_name: str,
    *,
    until: datetime,
    champion: int,
    challenger: int,
    limit: int = 20_000,
) -> Paired:
    """Both versions' forecasts for the first `limit` rows of `requests`, which the champion answered before `until`.

    Raises NotThereError if the challenger's files are gone, UserError if the champion's are; a challenger that can't
    score is told in what comes back.
    """
    try:
        loaded = registry.load(model_name, champion)
    except NotThereError as error:
        raise UserError(str(error)) from error
    old: Version = loaded.unwrap_python_model()
    new: Version = registry.load(model_name, challenger).unwrap_python_model()
    looked_up = [*dict.fromkeys([*old.looked_up, *new.looked_up])]
    rows = logged(
        ((row["request"], row["response"]) for row in requests.toLocalIterator()),
        RequestParser(signature(loaded), max_rows=_MAX_ROWS),
        looked_up,
        use_case.prepare.entity_ids,
        [*use_case.objective.outputs],
        limit=limit,
    )
    left = ~np.all([*rows.given.values()], axis=0)
    known = _known(tables, {*rows.entities[left]}, looked_up, until) if left.any() else {}
    return paired(rows, known, old, new, use_case.objective)


def _known(
    tables: Tables, entities: set[str], looked_up: Sequence[str], until: datetime
) -> Mapping[str, Sequence[float | None]]:
    """An entity to its looked-up columns in its newest row of features, as the online store has it."""
    features = tables.read("features").where(F.col(PREDICTION_TIME) <= F.lit(until))
    asked = tables.spark.createDataFrame([(str(entity),) for entity in sorted(entities)], f"{ENTITY} string")
    there = [F.col(f"`{name}`") if name in features.columns else F.lit(None) for name in looked_up]
    cells = F.array(*(cell.cast("double") for cell in there))
    newest = (
        features.join(F.broadcast(asked), ENTITY).groupBy(ENTITY).agg(F.max_by(cells, PREDICTION_TIME).alias("cells"))
    )
    return {row[ENTITY]: row["cells"] for row in collected(newest)}
