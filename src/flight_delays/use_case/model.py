"""The registered model: one pyfunc with its preparation inside.

MLflow stores this file itself as the model's code ("models from code"), so a version always runs the preparation it
was trained with, whatever package is installed where it is loaded. It therefore imports nothing of this project.
"""

import json
import os
import sqlite3
from contextlib import closing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm as lgb
import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from pandas.tseries.holiday import USFederalHolidayCalendar

ZONE = "America/New_York"
THRESHOLD = 0.5  # a flight is called late from this probability on

# What a request must say ...
REQUEST = {
    "carrier": DataType.string,
    "flight": DataType.long,
    "origin": DataType.string,
    "dest": DataType.string,
    "distance": DataType.long,
    "sched_dep_ts": DataType.datetime,
    "sched_arr_time": DataType.long,
}
# ... and what is looked up for it. Null is each one's stated default: nothing was known in time.
GROUPS = {
    "weather": (
        *(f"weather_{name}" for name in ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust")),
        *(f"weather_{name}" for name in ("precip", "pressure", "visib", "age_minutes")),
        *(f"weather_{name}_change" for name in ("temp", "wind_speed", "pressure", "visib")),
    ),
    "plane": ("plane_year_built", "plane_seats", "plane_engines"),
    "origin": (
        "origin_overdue",
        "origin_scheduled",
        "origin_departures_2h_late_rate",
        "origin_departures_2h_delay",
        "origin_departures_24h_late_rate",
        "origin_departures_24h_delay",
    ),
    "carrier": (
        "carrier_departures_3h_late_rate",
        "carrier_departures_3h_delay",
        "carrier_arrivals_24h_late_rate",
        "carrier_arrivals_24h_delay",
    ),
    "destination": (
        "dest_arrivals_6h_late_rate",
        "dest_arrivals_6h_delay",
        "dest_arrivals_24h_late_rate",
        "dest_arrivals_24h_delay",
    ),
    "route": ("route_arrivals_7d_late_rate", "route_arrivals_7d_delay"),
    "flight number": ("number_arrivals_28d_flights", "number_arrivals_28d_late_rate", "number_arrivals_28d_delay"),
    "aircraft": (
        "aircraft_slack",
        "aircraft_scheduled_slack",
        "aircraft_arrivals_24h_late_rate",
        "aircraft_arrivals_24h_delay",
    ),
}
LOOKED_UP = {name: DataType.double for group in GROUPS.values() for name in group}
INPUTS = Schema(
    [
        *(ColSpec(kind, name) for name, kind in REQUEST.items()),
        *(ColSpec(kind, name, required=False) for name, kind in LOOKED_UP.items()),
    ]
)
OUTPUTS = Schema([ColSpec(DataType.double, "probability"), ColSpec(DataType.long, "prediction")])

CATEGORIES = ("carrier", "origin", "dest")


# Environment variable that names the online store: a sqlite file with the table flight_features, keyed by flight_id.
ONLINE_STORE = "FLIGHT_DELAYS_ONLINE_STORE"


def levels(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The values of each categorical column, sorted: the codes that training and scoring share."""
    return {column: sorted(rows[column].dropna().unique()) for column in CATEGORIES}


def prepare(rows: pd.DataFrame, levels: dict[str, list[str]]) -> pd.DataFrame:
    """Request and looked-up columns to the columns that the booster takes; one row out per row in.

    `sched_dep_ts` is UTC without a zone, `sched_arr_time` local hhmm. A category not seen in training, like a missing
    value, becomes NaN, which the booster treats as unknown.
    """
    local = pd.to_datetime(rows["sched_dep_ts"]).dt.tz_localize("UTC").dt.tz_convert(ZONE)
    departure = local.dt.hour * 60 + local.dt.minute
    arrival = rows["sched_arr_time"] // 100 * 60 + rows["sched_arr_time"] % 100
    codes = {
        column: pd.Series(pd.Categorical(rows[column], categories=known).codes, index=rows.index)
        for column, known in levels.items()
    }
    turn = 2 * np.pi * departure / 1440
    return pd.DataFrame(
        {
            **{column: code.where(code >= 0).astype("float64") for column, code in codes.items()},
            "distance": rows["distance"].astype("float64"),
            # A day's clock has no end: 23:59 is near 00:00.
            "hour_sin": np.sin(turn),
            "hour_cos": np.cos(turn),
            "departure_minute": departure.astype("float64"),
            "weekday": local.dt.weekday.astype("float64"),
            "days_from_holiday": days_from_holiday(local),
            # On the clocks of both ends: the time zone between them goes with the destination.
            "scheduled_minutes": ((arrival - departure) % 1440).astype("float64"),
            **{name: rows[name].astype("float64") for name in LOOKED_UP if name != "plane_year_built"},
            "plane_age": local.dt.year.astype("float64") - rows["plane_year_built"].astype("float64"),
        },
        index=rows.index,
    )


def looked_up(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with all of LOOKED_UP. One that brings none gets those that the online store holds for its flight.

    Null where they are neither given nor found. Raises sqlite3.Error if the store that is named can't be read.
    """
    complete = rows.reindex(columns=[*REQUEST, *LOOKED_UP]).astype(dict.fromkeys(LOOKED_UP, "float64"))
    asked = complete[list(LOOKED_UP)].isna().all(axis=1)
    store = os.environ.get(ONLINE_STORE)
    if store is None or not asked.any():
        return complete
    ids = _flight_ids(complete[asked])
    columns = ", ".join(("flight_id", *LOOKED_UP))
    query = f"SELECT {columns} FROM flight_features WHERE flight_id IN (SELECT value FROM json_each(?))"
    with closing(sqlite3.connect(f"{Path(store).absolute().as_uri()}?mode=ro", uri=True)) as connection:
        found = pd.read_sql_query(query, connection, params=(json.dumps(ids.dropna().tolist()),), index_col="flight_id")
    complete.loc[asked, list(LOOKED_UP)] = found.reindex(ids).astype("float64").to_numpy()
    return complete


def _flight_ids(rows: pd.DataFrame) -> pd.Series:
    """As raw_flights makes them: carrier-flight-origin-dest-scheduled departure in UTC."""
    departure = pd.to_datetime(rows["sched_dep_ts"]).dt.strftime("%Y%m%dT%H%MZ")
    return (
        rows["carrier"] + "-" + rows["flight"].astype(str) + "-" + rows["origin"] + "-" + rows["dest"] + "-" + departure
    )


def days_from_holiday(local: pd.Series) -> pd.Series:
    """Days since the nearest federal holiday of the United States, negative before it; in a tie the coming one."""
    days = local.dt.tz_localize(None).dt.normalize().to_numpy().astype("datetime64[D]")
    if not len(days):
        return pd.Series(dtype="float64", index=local.index)
    years = days.astype("datetime64[Y]").astype(int) + 1970
    holidays = _holidays(int(years.min()) - 1, int(years.max()) + 1)
    following = np.searchsorted(holidays, days)
    ahead = (holidays[following] - days).astype("float64")
    since = (days - holidays[following - 1]).astype("float64")
    return pd.Series(np.where(ahead <= since, -ahead, since), index=local.index)


@cache
def _holidays(first_year: int, last_year: int) -> npt.NDArray[np.datetime64]:
    days = USFederalHolidayCalendar().holidays(datetime(first_year, 1, 1), datetime(last_year, 12, 31))  # noqa: DTZ001
    return np.asarray(days, dtype="datetime64[D]")


def calibrated(forecast: npt.NDArray[np.float64], slope: float, intercept: float) -> npt.NDArray[np.float64]:
    """Platt scaling on the log odds (Platt 1999): slope 1 and intercept 0 change nothing."""
    forecast = np.clip(forecast, 1e-15, 1 - 1e-15)
    odds: npt.NDArray[np.float64] = np.log(forecast) - np.log1p(-forecast)
    return 1 / (1 + np.exp(-(intercept + slope * odds)))


class DelayModel(PythonModel):
    """Columns as INPUTS and OUTPUTS. Artifacts: `booster` (LightGBM's own text format), and JSON files `levels`,
    `calibration` (slope, intercept) and `golden` (requests, and the probability that each must get).
    """  # fmt: skip

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifacts."""
        self.booster = lgb.Booster(model_file=context.artifacts["booster"])
        self.levels: dict[str, list[str]] = _read(context, "levels")
        self.calibration: dict[str, float] = _read(context, "calibration")
        self.golden: dict[str, list[Any]] = _read(context, "golden")

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Probability of arriving late, and 1 from THRESHOLD on; one row out per row in."""
        forecast = np.asarray(self.booster.predict(prepare(looked_up(model_input), self.levels)))
        probability = calibrated(forecast, **self.calibration)
        return pd.DataFrame(
            {"probability": probability, "prediction": (probability >= THRESHOLD).astype("int64")},
            index=model_input.index,
        )


def _read(context: PythonModelContext, artifact: str) -> Any:  # noqa: ANN401  # JSON
    return json.loads(Path(context.artifacts[artifact]).read_text())


mlflow.models.set_model(DelayModel())
