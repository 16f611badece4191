"""Golden requests: they travel with the model, with the answers that it must give wherever it is loaded."""

import json

import numpy as np
import pandas as pd

from flight_delays.core.metrics import Floats
from flight_delays.core.use_case import UseCase

_GROUPS = 16  # where no text groups the rows


def choose_golden_requests(use_case: UseCase, rows: pd.DataFrame) -> pd.DataFrame:
    """For each value of the first text column, the row with the most looked-up values (without a text: one per part).

    Then three of these again with nothing looked up, and one with texts that no model has seen.
    """
    requests = rows.reindex(columns=[*use_case.inputs]).reset_index(drop=True)
    looked_up = requests[[*use_case.looked_up]].notna().sum(axis=1)
    texts = [column.name for column in use_case.signature.inputs if column.type == "string"]
    groups = requests[texts[0]] if texts else requests.index * _GROUPS // max(len(requests), 1)
    fullest = requests.loc[looked_up.groupby(groups).idxmax()]
    bare = fullest.head(3).assign(**dict.fromkeys(use_case.looked_up, np.nan))
    unseen = fullest.tail(1).assign(**dict.fromkeys(texts, "unseen"))
    return pd.concat([fullest, bare, *([unseen] if texts else [])], ignore_index=True)


def golden_json(use_case: UseCase, requests: pd.DataFrame, forecasts: Floats) -> str:
    """Column to its values, times as ISO text, a missing value as null; the forecasts as the output's column."""
    columns = requests.assign(**{use_case.objective.forecast: forecasts})
    values = {name: [None if pd.isna(value) else value for value in columns[name].tolist()] for name in columns}
    return json.dumps(values, default=pd.Timestamp.isoformat)
