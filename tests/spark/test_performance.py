"""Performance in the tables: what is measured, what is measured again, and two versions on the same entities."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import to_arrow_schema
from tests.contexts import make_context, printed

from flight_delays.core.settings import Performance
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables
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
    return context.tables.read("performance").toPandas().set_index(["model_version", "source", "day"])


def test_each_day_of_a_version_is_measured_by_the_labels_known_and_again_only_if_it_changed(
    context: Context, flown: pd.DataFrame
) -> None:
    found = measure(context)
    whole = found[found["dimension"] == "all"]
    assert whole.groupby(["model_version", "source"]).size().to_dict() == {
        (1, "batch"): DAYS,
        (1, "serving"): 2,
        (2, "shadow"): DAYS - 2,  # it was trained on two of them
    }
    day = whole.loc[1, "batch", date(2013, 1, 5)]
    of_day = flown[(flown["day"] == date(2013, 1, 5)) & flown["label"].notna()]
    loss = USE_CASE.objective.loss(of_day["label"].to_numpy(), of_day["forecast"].to_numpy()).mean()
    assert (day["rows"], day["labelled"], day["loss"]) == (A_DAY, A_DAY - 1, pytest.approx(loss))
    assert dict(day["metrics"])["log_loss"] == pytest.approx(loss)
    assert np.isnan(day["answers"])
    last = whole.loc[1, "batch", date(2013, 1, 16)]
    assert (last["labelled"], last["complete"], day["complete"]) == (A_DAY - 2, False, True)
    slices = found.loc[(1, "batch", date(2013, 1, 5))].query("dimension == 'carrier'")
    assert (
        slices.set_index("slice")["rows"].to_dict()
        == flown[flown["day"] == date(2013, 1, 5)].groupby("carrier").size().to_dict()
    )

    served = whole.loc[1, "serving", date(2013, 1, 5)]
    assert (served["rows"], served["labelled"], served["answers"]) == (A_DAY, A_DAY - 1, 3 * A_DAY)
    assert (served["calibration"], served["mean_latency_ms"]) == (pytest.approx(0.7 - of_day["label"].mean()), 20.0)
    assert set(found.loc[(1, "serving", date(2013, 1, 5))]["dimension"]) == {"all", "carrier", "origin", "time of day"}
    without_features = found.loc[[(1, "serving", date(2013, 1, 1))]]
    assert without_features[["dimension", "rows", "labelled"]].to_numpy().tolist() == [["all", 1, 1]]
    said = printed(context)
    assert "1 predictions are of entities without features and label: not measured" in said
    assert "Version 3 of measured is gone" in said

    version = context.tables.version("performance")
    again = measure(context)
    assert context.tables.version("performance") == version
    assert context.task_values["days"] == "0"
    pd.testing.assert_frame_equal(again, found)


def test_a_label_that_comes_later_or_is_corrected_changes_its_day_alone_and_an_earlier_run_nothing(
    context: Context, flown: pd.DataFrame
) -> None:
    before = measure(context)
    corrected = flown[flown["day"] == date(2013, 1, 7)].iloc[[1]]
    known = pd.Timestamp(AS_OF).tz_localize(None) + HOUR
    write(context.tables, "labels", corrected.assign(label=1 - corrected["label"], known_at=known))
    unchanged = measure(context)  # it is not known yet
    pd.testing.assert_frame_equal(unchanged, before)

    after = measure(replace(context, as_of=LATER))
    whole = after[after["dimension"] == "all"]
    newer = whole[whole["as_of"] == pd.Timestamp(LATER).tz_localize(None)]
    assert {day for _, _, day in newer.index} == {date(2013, 1, 7), date(2013, 1, 16)}
    assert len(newer) == 4
    day, was = (one[one["dimension"] == "all"].loc[1, "batch", date(2013, 1, 7)] for one in (after, before))
    assert (day["rows"], day["labelled"]) == (was["rows"], was["labelled"])
    assert day["calibration"] - was["calibration"] == pytest.approx((2 * corrected["label"].iloc[0] - 1) / (A_DAY - 1))
    assert whole.loc[1, "batch", date(2013, 1, 16)]["complete"]
    pd.testing.assert_frame_equal(measure(context), after)  # as of a time before


def test_over_28_days_the_loss_has_an_interval_from_whole_days(context: Context) -> None:
    measure(replace(context, as_of=LATER))
    view = context.tables.read("daily_performance").where("model_version = 1 AND source = 'batch'").orderBy("day")
    days = view.toPandas()
    assert days["coverage"].tolist() == pytest.approx([0.95] * DAYS)
    assert days["loss_28_days_low"].notna().tolist() == [False] * 13 + [True] * 3
    losses, rows = days["loss"].to_numpy(), days["labelled"].to_numpy()
    mean = (losses * rows).sum() / rows.sum()
    half = 2.131 * np.sqrt(DAYS / (DAYS - 1) * np.square(rows * (losses - mean)).sum()) / rows.sum()
    newest = days.iloc[-1]
    assert newest["loss_28_days"] == pytest.approx(mean)
    assert newest["loss_28_days_low"] == pytest.approx(mean - half, rel=1e-3)
    assert newest["loss_28_days_high"] == pytest.approx(mean + half, rel=1e-3)


def test_a_slice_that_lost_its_rows_has_none_and_keeps_no_old_loss(context: Context) -> None:
    measure(replace(context, as_of=LATER))
    moved = "SET carrier = 'B6', prediction_ts = prediction_ts - INTERVAL 1 HOUR"
    features = context.tables.name("features")
    context.tables.spark.sql(f"UPDATE {features} {moved} WHERE day = '2013-01-03' AND carrier = 'AA'")
    found = measure(replace(context, as_of=LATER)).loc[(1, "batch", date(2013, 1, 3))].query("dimension == 'carrier'")
    rows = found.set_index("slice")
    assert rows["rows"].sum() == A_DAY
    assert (rows.loc["AA", "rows"], rows.loc["AA", "labelled"]) == (0, 0)
    assert np.isnan(rows.loc["AA", "loss"])
    assert rows.loc["B6", "rows"] > 0


def test_two_versions_are_compared_on_the_complete_days_that_both_scored(context: Context, flown: pd.DataFrame) -> None:
    since = datetime(2013, 1, 11, 10, tzinfo=UTC)  # when the flights of the 11th were forecast
    found = paired_days(context.tables, USE_CASE, NAME, champion=1, challenger=2, since=since, as_of=AS_OF)
    assert [one.day for one in found] == [date(2013, 1, number) for number in range(11, 16)]
    assert {(one.rows, one.labelled) for one in found} == {(A_DAY, A_DAY - 1)}
    of_day = flown[(flown["day"] == date(2013, 1, 12)) & flown["label"].notna()]
    labels, forecast = of_day["label"].to_numpy(), of_day["forecast"].to_numpy()
    loss = USE_CASE.objective.loss
    assert found[1].difference == pytest.approx((loss(labels, forecast / 2) - loss(labels, forecast)).mean())
    off = [abs(one.mean() - labels.mean()) for one in (forecast / 2, forecast)]
    assert found[1].guardrails == {"calibration": pytest.approx(off[0] - off[1])}
    nothing = paired_days(context.tables, USE_CASE, NAME, champion=1, challenger=9, since=since, as_of=AS_OF)
    assert nothing == []
