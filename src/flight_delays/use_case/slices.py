"""Groups of flights in each of which a new model must not do harm."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from flight_delays.use_case.prepare import ZONE

_TIMES_OF_DAY = {"night": 0, "morning": 6, "midday": 11, "afternoon": 15, "evening": 19}  # from this hour on


def slices(rows: pd.DataFrame) -> dict[str, npt.NDArray[np.str_]]:
    """Dimension to each row's value, from `carrier`, `origin` and `sched_dep_ts` (UTC without a zone)."""
    local = rows["sched_dep_ts"].dt.tz_localize("UTC").dt.tz_convert(ZONE)
    return {
        "carrier": rows["carrier"].to_numpy(dtype=np.str_),
        "origin": rows["origin"].to_numpy(dtype=np.str_),
        "time of day": time_of_day(local.dt.hour.to_numpy()),
    }


def time_of_day(hours: npt.NDArray[np.integer]) -> npt.NDArray[np.str_]:
    """The part of the day that an hour (0 to 23, on the clocks of New York) is in."""
    starts = np.fromiter(_TIMES_OF_DAY.values(), dtype=np.int64)
    return np.array(list(_TIMES_OF_DAY))[np.searchsorted(starts, hours, side="right") - 1]
