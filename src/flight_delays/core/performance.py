"""How good a version's forecasts of a day were, in total and by slice.

An entity counts once: by its newest forecast before its outcome was known. What is not measured is None, never 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from flight_delays.core.feature_set import ENTITY
from flight_delays.core.objective import Objective
from flight_delays.core.use_case import LABEL

FORECAST_AT, FORECAST, OUTCOME_KNOWN_AT, LATENCY = "forecast_at", "forecast", "outcome_known_at", "response_time_ms"
SCORED_AT, PREDICTION_ID = "scored_at", "prediction_id"
ALL = "all"
"""Dimension and slice of all rows together."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """What is measured together: a version's forecasts for one day from one source."""

    model_version: int
    source: str
    day: date


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A digest of a group's forecasts and labels, and as of when it was taken."""

    digest: int
    as_of: datetime


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Of one slice of a group: entities, how many have a label, and how good the forecasts of those are.

    `loss` is the mean of the objective's, `calibration` the mean forecast minus the mean label, `confidence` the mean
    probability of the predicted class, over all rows. `answers` counts those of the endpoint, an entity's second one
    too, and is None unless it was asked; latencies are in ms.
    """

    dimension: str
    slice: str
    rows: int = 0
    labelled: int = 0
    loss: float | None = None
    calibration: float | None = None
    metrics: Mapping[str, float] | None = None
    confidence: float | None = None
    answers: int | None = None
    mean_latency_ms: float | None = None
    p95_latency_ms: float | None = None


def to_measure(
    found: Mapping[Group, int], measured: Mapping[Group, Evidence], unseen_from: Mapping[int, date], as_of: datetime
) -> list[Group]:
    """The groups whose digest is another than when they were measured, in order.

    Left out are days before `unseen_from` of the version, which it was trained on, versions that this lacks, and
    groups that were measured as of later: what was known then is not forgotten.
    """

    def is_due(group: Group) -> bool:
        before = measured.get(group)
        return before is None or (before.as_of <= as_of and before.digest != found[group])

    unseen = (one for one in found if one.model_version in unseen_from and one.day >= unseen_from[one.model_version])
    return sorted(filter(is_due, unseen), key=lambda one: (one.model_version, one.source, one.day))


def counted(forecasts: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows count: of each entity the newest forecast before its outcome was known; all of an entity may be later.

    Takes the columns entity_id, forecast_at and outcome_known_at (NaT while it is not), in the order of `in_order`.
    """
    known = forecasts[OUTCOME_KNOWN_AT]
    before = (known.isna() | (forecasts[FORECAST_AT] < known)).to_numpy(dtype=np.bool_)
    newest = ~forecasts[ENTITY].where(before).duplicated(keep="last").to_numpy(dtype=np.bool_)
    return before & newest


def in_order(forecasts: pd.DataFrame) -> pd.DataFrame:
    """By entity and time; forecasts as of the same time by when they were made. Sums come out the same to the bit."""
    by = [ENTITY, FORECAST_AT, SCORED_AT, PREDICTION_ID]
    return forecasts.sort_values([name for name in by if name in forecasts], ignore_index=True)


def quality(
    objective: Objective, forecasts: pd.DataFrame, slices: Mapping[str, npt.NDArray[np.object_]]
) -> Iterator[Quality]:
    """That of all rows of a group, then that of each slice.

    `forecasts` are in the order of `in_order` and have the columns entity_id, forecast_at, forecast, label (NaN while
    there is none), outcome_known_at and response_time_ms (NaN unless served). `slices` gives each dimension's value of
    each row, None where that is not known.
    """
    once = counted(forecasts)
    yield _quality(objective, forecasts, once, ALL, ALL)
    for dimension, values in slices.items():
        for value in sorted({value for value in values if value is not None}):
            there = np.asarray(values == value, dtype=np.bool_)
            yield _quality(objective, forecasts[there], once[there], dimension, str(value))


def _quality(
    objective: Objective, forecasts: pd.DataFrame, once: npt.NDArray[np.bool_], dimension: str, value: str
) -> Quality:
    made = forecasts[FORECAST].to_numpy(dtype=np.float64)[once]
    labels = forecasts[LABEL].to_numpy(dtype=np.float64)[once]
    known = ~np.isnan(labels)
    confidence = objective.confidence(made)
    answered = forecasts[LATENCY].dropna().to_numpy(dtype=np.float64)
    scores = objective.metrics(labels[known], made[known]) if known.any() else {}
    metrics = {name: float(score) for name, score in scores.items() if name != "rows" and np.isfinite(score)}
    return Quality(
        dimension=dimension,
        slice=value,
        rows=int(once.sum()),
        labelled=int(known.sum()),
        loss=float(objective.loss(labels[known], made[known]).mean()) if known.any() else None,
        calibration=float(made[known].mean() - labels[known].mean()) if known.any() else None,
        metrics=metrics or None,
        confidence=float(confidence.mean()) if confidence is not None and len(confidence) else None,
        answers=len(answered) or None,
        mean_latency_ms=float(answered.mean()) if len(answered) else None,
        p95_latency_ms=float(np.percentile(answered, 95, method="inverted_cdf")) if len(answered) else None,
    )
