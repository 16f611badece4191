"""Performance in the tables: what is measured, what is measured again, and two versions on the same entities."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from scipy import stats
from tests.contexts import make_context, printed

from flight_delays.core.errors import UserError
from flight_delays.core.settings import Performance
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables
from flight_delays.platform.outcomes import forecasts
from flight_delays.platform.paired_days import paired_days
from flight_delays.platform.registry import NotThereError, Version
from flight_delays.tasks import performance
from flight_delays.use_case import USE_CASE

NAME = "measured"
DAYS, A_DAY = 16, 20
AS_OF = datetime(2013, 1, 17, 18, tzinfo=UTC)  # 13 hours after the 16th day ended in New York, where 18 are waited
LATER = datetime(2013, 1, 18, tzinfo=UTC)
TRAINED_UNTIL = {1: "2013-01-01", 2: "2013-01-03"}
HOUR = pd.Timedelta(hours=1)


@dataclass(frozen=True)
class Tags:
    """A registry that knows until when versions were trained; 3 is gone."""

    def version(self, name: str, number: int) -> Version:
        if number not in TRAINED_UNTIL:
            raise NotThereError(f"model {name} has no version {number}")
        return Version(name=name, number=number, run_id="run", tags={"trained_until": TRAINED_UNTIL[number]})

    def kept(self, version: Version, file: str) -> bytes:
        raise UserError(f"version {version.number} has kept no {file}")


def write(tables: Tables, table: str, rows: pd.DataFrame) -> None:
    schema = tables.read(table).schema
    arrow = pa.Table.from_pandas(rows.reindex(columns=schema.names), to_arrow_schema(schema), preserve_index=False)
    tables.append(table, tables.spark.createDataFrame(arrow))


def predictions(rows: pd.DataFrame, version: int, source: str, forecast: Any, **changes: Any) -> pd.DataFrame:
    at = rows["prediction_ts"] + changes.pop("after", 0 * HOUR)
    made = rows[["entity_id"]].assign(
        prediction_ts=at,
        prediction_id=[
            f"{entity}|{when}|{version}|{source}" for entity, when in zip(rows["entity_id"], at, strict=True)
        ],
        model_name=NAME,
        model_version=version,
        scored_at=at,
        scored_date=at.dt.date,
        probability=forecast,
        prediction=0.0,
        source=source,
    )
    return made.assign(**changes)


@pytest.fixture(scope="module")
def flown(flights: pd.DataFrame) -> pd.DataFrame:
    """16 days, the first flight of each day without a label; that of the last day's second one comes after AS_OF."""
    rows = flights.head(DAYS * A_DAY).copy()
    rows.loc[rows.index % A_DAY == 0, "label"] = np.nan
    rows.loc[(DAYS - 1) * A_DAY + 1, "label_known_at"] = pd.Timestamp(AS_OF).tz_localize(None) + HOUR
    rows["forecast"] = np.where(rows["weather_visib"] < 3, 0.8, 0.1) + np.linspace(0, 0.1, len(rows))
    return rows


@pytest.fixture(scope="module")
def context(new_tables: Callable[[str], Tables], flown: pd.DataFrame) -> Context:
    tables = new_tables("performance")
    write(tables, "features", flown)
    write(tables, "labels", flown.dropna(subset=["label"]).rename(columns={"label_known_at": "known_at"}))
    first = flown.head(1)
    nobody = pd.concat([first.assign(entity_id="in no table"), first.assign(entity_id="in labels")])
    write(tables, "labels", nobody.tail(1).assign(label=1.0, known_at=first["label_known_at"].iloc[0]))
    asked = flown[flown["day"] == date(2013, 1, 5)]
    of_champion = [
        predictions(flown, 1, "batch", flown["forecast"]),
        # Asked once before the features, once before the outcome and once after it, then also what is in no table.
        *(predictions(asked, 1, "serving", 0.5 + n / 10, after=after * HOUR, response_time_ms=10.0 * n)
          for n, after in ((1, -1), (2, 1), (3, 9))),
        predictions(nobody, 1, "serving", 0.5, response_time_ms=5.0),
        predictions(asked, 3, "batch", 0.5),
        predictions(asked, 1, "batch", 0.5, model_name="another"),
    ]  # fmt: skip
    write(tables, "predictions", pd.concat(of_champion))
    write(tables, "shadow_predictions", predictions(flown, 2, "shadow", flown["forecast"] / 2))
    registry: Any = Tags()
    return make_context(as_of=AS_OF, tables=tables, registry=registry)


def measure(context: Context) -> pd.DataFrame:
    performance.run(context, Performance(model_name=NAME))
    rows = context.tables.read("performance").toPandas()
    return rows.set_index(["model_version", "source", "day", "dimension", "slice"]).sort_index()


@pytest.fixture(scope="module")
def first(context: Context) -> pd.DataFrame:
    """What the first run measured."""
    return measure(context)


def whole(found: pd.DataFrame) -> pd.DataFrame:
    return found.xs(("all", "all"), level=("dimension", "slice"))


def of_day(flown: pd.DataFrame, day: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the champion's forecasts of entities that have a label."""
    rows = flown[(flown["day"] == date(2013, 1, day)) & flown["label"].notna()]
    return rows["label"].to_numpy(), rows["forecast"].to_numpy()


def test_each_day_that_a_version_was_not_trained_on_is_measured_by_the_labels_known(
    context: Context, flown: pd.DataFrame, first: pd.DataFrame
) -> None:
    days = whole(first)
    versions = days.groupby(["model_version", "source"]).size().to_dict()
    assert versions == {(1, "batch"): DAYS, (1, "serving"): 2, (2, "shadow"): DAYS - 2}
    day, last = (days.loc[1, "batch", date(2013, 1, number)] for number in (5, 16))
    loss = USE_CASE.objective.loss(*of_day(flown, 5)).mean()
    assert (day["rows"], day["labelled"], day["loss"]) == (A_DAY, A_DAY - 1, pytest.approx(loss))
    assert dict(day["metrics"])["log_loss"] == pytest.approx(loss)
    assert np.isnan(day["answers"])
    assert (last["labelled"], last["complete"], day["complete"]) == (A_DAY - 2, False, True)
    carriers = first.loc[(1, "batch", date(2013, 1, 5), "carrier")]["rows"]
    assert carriers.to_dict() == flown[flown["day"] == date(2013, 1, 5)].groupby("carrier").size().to_dict()
    said = printed(context)
    assert "1 predictions are of entities without features and label: not measured" in said
    assert "Version 3 is not measured: model measured has no version 3" in said


def test_of_an_entitys_answers_the_newest_before_its_outcome_is_measured_and_all_are_timed(
    flown: pd.DataFrame, first: pd.DataFrame
) -> None:
    served = whole(first).loc[1, "serving", date(2013, 1, 5)]
    assert (served["rows"], served["labelled"], served["answers"]) == (A_DAY, A_DAY - 1, 3 * A_DAY)
    assert served["calibration"] == pytest.approx(0.7 - of_day(flown, 5)[0].mean())
    assert served["mean_latency_ms"] == 20.0
    dimensions = first.loc[(1, "serving")].index.get_level_values("dimension")
    assert {*dimensions} == {"all", "carrier", "origin", "time of day"}
    without_features = first.loc[(1, "serving", date(2013, 1, 1))]
    assert without_features[["rows", "labelled"]].to_dict("index") == {("all", "all"): {"rows": 1, "labelled": 1}}


def test_over_28_days_the_loss_has_an_interval_from_complete_days(context: Context, first: pd.DataFrame) -> None:
    days = context.tables.read("daily_performance").where("source = 'batch'").orderBy("day").toPandas()
    assert len(days) == len(whole(first).loc[(1, "batch")])
    assert days["coverage"].tolist() == pytest.approx([0.95] * 15 + [0.9])
    assert days["loss_28_days_low"].notna().tolist() == [False] * 13 + [True] * 3  # 14 complete ones are needed
    losses, rows = (days[name].to_numpy()[:15] for name in ("loss", "labelled"))
    mean = (losses * rows).sum() / rows.sum()
    half = stats.t.ppf(0.975, 14) * np.sqrt(15 / 14 * np.square(rows * (losses - mean)).sum()) / rows.sum()
    newest = days.iloc[-1]
    assert newest["loss_28_days"] == pytest.approx(mean)
    bounds = [newest["loss_28_days_low"], newest["loss_28_days_high"]]
    assert bounds == pytest.approx([mean - half, mean + half], rel=1e-3)


def test_two_versions_are_compared_on_the_whole_days_since_that_both_scored(
    context: Context, flown: pd.DataFrame
) -> None:
    since = datetime(2013, 1, 11, 3, tzinfo=UTC)  # on the evening of the 10th in New York
    found = paired_days(context.tables, USE_CASE, NAME, champion=1, challenger=2, since=since, as_of=AS_OF)
    assert [one.day for one in found] == [date(2013, 1, number) for number in range(11, 17)]
    assert [(one.rows, one.labelled) for one in found] == [(A_DAY, A_DAY - 1)] * 5 + [(A_DAY, A_DAY - 2)]
    labels, forecast = of_day(flown, 12)
    loss = USE_CASE.objective.loss
    assert found[1].loss == pytest.approx((loss(labels, forecast / 2) - loss(labels, forecast)).mean())
    off, less = (abs(one.mean() - labels.mean()) for one in (forecast / 2, forecast))
    assert found[1].guardrails == {"calibration": pytest.approx(off - less)}


def test_a_day_is_measured_again_only_if_it_changed_and_never_as_of_an_earlier_time(
    context: Context, flown: pd.DataFrame, first: pd.DataFrame
) -> None:
    """A label that is corrected, one that comes later, and rows of features that have moved to another slice."""
    tables, version = context.tables, context.tables.version("performance")
    corrected = flown[flown["day"] == date(2013, 1, 7)].iloc[[1]]
    known = pd.Timestamp(AS_OF).tz_localize(None) + HOUR
    write(tables, "labels", corrected.assign(label=1 - corrected["label"], known_at=known))
    assert measure(context).equals(first)  # it is not known yet
    assert (tables.version("performance"), context.task_values["days"]) == (version, "0")

    moved = "SET carrier = 'B6', prediction_ts = prediction_ts - INTERVAL 1 HOUR"
    tables.spark.sql(f"UPDATE {tables.name('features')} {moved} WHERE day = '2013-01-03' AND carrier = 'AA'")
    after = measure(replace(context, as_of=LATER))
    newer = whole(after)[whole(after)["as_of"] == pd.Timestamp(LATER).tz_localize(None)]
    assert {day for _, _, day in newer.index} == {date(2013, 1, number) for number in (3, 7, 16)}
    day, was = (whole(one).loc[1, "batch", date(2013, 1, 7)] for one in (after, first))
    assert (day["rows"], day["labelled"]) == (was["rows"], was["labelled"])
    assert day["calibration"] - was["calibration"] == pytest.approx((2 * corrected["label"].iloc[0] - 1) / (A_DAY - 1))
    last = whole(after).loc[1, "batch", date(2013, 1, 16)]
    assert (last["labelled"], last["complete"]) == (A_DAY - 1, True)
    carriers = after.loc[(1, "batch", date(2013, 1, 3), "carrier")]
    assert (carriers["rows"].sum(), carriers.loc["AA", "rows"]) == (A_DAY, 0)
    assert np.isnan(carriers.loc["AA", "loss"])  # it keeps no old one
    assert measure(context).equals(after)


@pytest.fixture(scope="module")
def every(context: Context, flown: pd.DataFrame) -> pd.DataFrame:
    """All forecasts, also of an entity with rows on two days, and of one whose label has moved from one to the other.

    Written last: what is measured above knows nothing of it.
    """
    first, later = (flown[flown["day"] == date(2013, 1, day)].iloc[[1]].assign(entity_id="twice") for day in (1, 12))
    write(context.tables, "features", pd.concat([first, later]))
    asked = [
        predictions(rows, 1, "serving", 0.5, after=after * HOUR, prediction_id=name)
        for name, rows, after in (("before", first, -1), ("between", first, 1), ("after", later, 1))
    ]
    moved = predictions(first.assign(entity_id="moved"), 1, "serving", 0.5, prediction_id="moved")
    write(context.tables, "predictions", pd.concat([*asked, moved]))
    labels = pd.concat([first, later]).rename(columns={"label_known_at": "known_at"})
    write(context.tables, "labels", labels.assign(entity_id="moved"))
    return forecasts(context.tables, USE_CASE, NAME, LATER).toPandas()


@pytest.mark.parametrize(
    ("numbers", "served"),
    [([1], ["before", "between"]), ([12], ["after", "moved"]), ([1, 5, 12], ["after", "before", "between", "moved"])],
    ids=str,
)
def test_forecasts_of_some_days_are_those_days_among_all(
    context: Context, every: pd.DataFrame, numbers: list[int], served: list[str]
) -> None:
    days = [date(2013, 1, number) for number in numbers]
    some = forecasts(context.tables, USE_CASE, NAME, LATER, F.col("day").isin(days)).toPandas()
    both = [rows.sort_values("prediction_id", ignore_index=True) for rows in (some, every[every["day"].isin(days)])]
    pd.testing.assert_frame_equal(*both)
    names = both[0].query("entity_id in ['twice', 'moved']")["prediction_id"]
    assert names.tolist() == served
