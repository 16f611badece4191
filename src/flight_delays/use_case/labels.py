"""The label: did the flight arrive 15 minutes late or more?"""

from datetime import timedelta

import numpy as np
import pyarrow as pa

from flight_delays.core.columns import UTC_TIME, Columns

LATE_MINUTES = 15

# A day may be judged this long after its end: by then all but a handful of its flights have landed.
MATURITY = timedelta(hours=18)

LABELS = pa.schema(
    {
        "flight_id": pa.string(),
        "flight_date": pa.date32(),
        "is_late": pa.int32(),
        "arr_delay": pa.float64(),
        "known_at": UTC_TIME,
    }
)


def flight_labels(flights: Columns) -> Columns:
    """One row per flight of raw_flights that arrived, with the columns of LABELS.

    A flight without an arrival (never departed, or diverted) has no row: its label is unknown, not 0.
    """
    arrived = ~np.isnan(flights["arr_delay"])
    labels = {
        **{name: flights[name] for name in ("flight_id", "flight_date", "arr_delay")},
        "is_late": (flights["arr_delay"] >= LATE_MINUTES).astype("int32"),
        "known_at": flights["outcome_known_at"],
    }
    return {name: values[arrived] for name, values in labels.items()}
