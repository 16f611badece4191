"""Golden requests: they travel with the model, with the answers that it must give wherever it is loaded."""

import json

import numpy as np
import pandas as pd

from flight_delays.core.metrics import Floats
from flight_delays.use_case.model import CATEGORIES, INPUTS, LOOKED_UP


def golden_requests(rows: pd.DataFrame) -> pd.DataFrame:
    """Of `rows`, the first of each carrier's with the most looked-up values; three again with nothing looked up, and
    one with categories that no model has seen.
    """  # fmt: skip
    requests = rows.reindex(columns=INPUTS.input_names()).reset_index(drop=True)
    looked_up = requests[list(LOOKED_UP)].notna().sum(axis=1)
    fullest = requests.loc[looked_up.groupby(requests["carrier"]).idxmax()]
    bare = fullest.head(3).assign(**dict.fromkeys(LOOKED_UP, np.nan))
    unseen = fullest.tail(1).assign(**dict.fromkeys(CATEGORIES, "unseen"))
    return pd.concat([fullest, bare, unseen], ignore_index=True)


def golden_json(requests: pd.DataFrame, probabilities: Floats) -> str:
    """Column to its values, times as ISO text, a missing value as null; the answers as column `probability`."""
    told = requests.assign(sched_dep_ts=requests["sched_dep_ts"].map(pd.Timestamp.isoformat), probability=probabilities)
    return json.dumps({name: [None if pd.isna(value) else value for value in told[name].tolist()] for name in told})
