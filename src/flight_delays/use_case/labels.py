"""The label: did the flight arrive 15 minutes late or more?"""

from datetime import timedelta

import numpy as np

from flight_delays.core.columns import Columns
from flight_delays.core.use_case import Labels

LATE_MINUTES = 15

# A day may be judged this long after its end: by then all but a handful of its flights have landed.
MATURITY = timedelta(hours=18)


def flight_labels(flights: Columns) -> Columns:
    """1 for a flight that arrived late, 0 for one that did not.

    A flight without an arrival (never departed, or diverted) has none: its label is unknown, not 0.
    """
    arrived = ~np.isnan(flights["arr_delay"])
    return {
        "entity_id": flights["flight_id"],
        "day": flights["flight_date"],
        "label": np.where(arrived, flights["arr_delay"] >= LATE_MINUTES, np.nan),
        "known_at": flights["outcome_known_at"],
    }


LABELS = Labels(
    table="raw_flights", columns=("flight_id", "flight_date", "arr_delay", "outcome_known_at"), make=flight_labels
)
