"""What the model makes of a request. This file travels with each version: it imports nothing of the project."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

ZONE = ZoneInfo("America/New_York")
CATEGORIES = ()
RULES = (("begins_at is not a full hour", ("begins_at",), lambda times: times != times.astype("datetime64[h]")),)


def learn(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:  # noqa: ARG001
    """Nothing."""
    return {}


def prepare(
    columns: Mapping[str, npt.NDArray[Any]],
    learnt: Mapping[str, Any],  # noqa: ARG001
) -> dict[str, npt.NDArray[np.float64]]:
    """The hour on the clocks of ZONE, and all numbers as they are."""
    local = pd.DatetimeIndex(columns["begins_at"]).tz_localize("UTC").tz_convert(ZONE)
    return {
        "hour": local.hour.to_numpy(dtype="float64"),
        "weekday": local.weekday.to_numpy(dtype="float64"),
        "day_of_year": local.dayofyear.to_numpy(dtype="float64"),
        **{name: np.asarray(values, dtype="float64") for name, values in columns.items() if name != "begins_at"},
    }


def entity_ids(columns: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """The hour in UTC: 2011-07-04T13Z."""
    return [f"{hour}Z" for hour in np.datetime_as_string(columns["begins_at"].astype("datetime64[h]")).tolist()]
