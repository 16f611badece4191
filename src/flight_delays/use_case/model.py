"""The registered model: one pyfunc with its preparation inside.

MLflow stores this file itself as the model's code ("models from code"), so a version always runs the preparation it
was trained with, whatever package is installed where it is loaded. It therefore imports nothing of this project.
"""

import json
from pathlib import Path
from typing import Any

import lightgbm as lgb
import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema

ZONE = "America/New_York"
THRESHOLD = 0.5  # a flight is called late from this probability on

# What a request must say, and what is looked up for it (null where nothing was known in time).
REQUEST = {
    "carrier": DataType.string,
    "origin": DataType.string,
    "dest": DataType.string,
    "distance": DataType.long,
    "sched_dep_ts": DataType.datetime,
    "sched_arr_time": DataType.long,
}
LOOKED_UP = dict.fromkeys(
    (
        "weather_temp",
        "weather_dewp",
        "weather_humid",
        "weather_wind_dir",
        "weather_wind_speed",
        "weather_wind_gust",
        "weather_precip",
        "weather_pressure",
        "weather_visib",
        "weather_age_minutes",
        "plane_year_built",
        "plane_seats",
        "plane_engines",
    ),
    DataType.double,
)
INPUTS = Schema(
    [
        *(ColSpec(kind, name) for name, kind in REQUEST.items()),
        *(ColSpec(kind, name, required=False) for name, kind in LOOKED_UP.items()),
    ]
)
OUTPUTS = Schema([ColSpec(DataType.double, "probability"), ColSpec(DataType.long, "prediction")])

CATEGORIES = ("carrier", "origin", "dest")


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
    looked_up = {name: rows[name].astype("float64") if name in rows else np.nan for name in LOOKED_UP}
    return pd.DataFrame(
        {
            **{column: code.where(code >= 0).astype("float64") for column, code in codes.items()},
            "distance": rows["distance"].astype("float64"),
            "departure_minute": departure.astype("float64"),
            "weekday": local.dt.weekday.astype("float64"),
            # On the clocks of both ends: the time zone between them goes with the destination.
            "scheduled_minutes": ((arrival - departure) % 1440).astype("float64"),
            **{name: value for name, value in looked_up.items() if name != "plane_year_built"},
            "plane_age": local.dt.year.astype("float64") - looked_up["plane_year_built"],
        },
        index=rows.index,
    )


def calibrated(forecast: npt.NDArray[np.float64], slope: float, intercept: float) -> npt.NDArray[np.float64]:
    """Platt scaling on the log odds (Platt 1999): slope 1 and intercept 0 change nothing."""
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
        forecast = np.asarray(self.booster.predict(prepare(model_input, self.levels)))
        probability = calibrated(forecast, **self.calibration)
        return pd.DataFrame(
            {"probability": probability, "prediction": (probability >= THRESHOLD).astype("int64")},
            index=model_input.index,
        )


def _read(context: PythonModelContext, artifact: str) -> Any:  # noqa: ANN401  # JSON
    return json.loads(Path(context.artifacts[artifact]).read_text())


mlflow.models.set_model(DelayModel())
