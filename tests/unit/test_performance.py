"""How good the forecasts of a day were: who counts, what is measured, what is never 0 for want of a label."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flight_delays.core.objective import BinaryClassification, Objective, Regression
from flight_delays.core.performance import (
    Evidence,
    Group,
    Quality,
    counted,
    in_order,
    quality,
    to_measure,
)
from flight_delays.platform.ddl import columns, declarations
from flight_delays.use_case import USE_CASE

BINARY = BinaryClassification(positive="late", negative="on time")
RENTALS = Regression(unit="rentals", scale=10.0)
NOON = pd.Timestamp("2013-11-01 12:00")
HOUR = pd.Timedelta(hours=1)
UNKNOWN: dict[str, Any] = {"label": math.nan, "outcome_known_at": pd.NaT}
DAY = date(2013, 11, 1)


def forecasts(*changes: dict[str, Any]) -> pd.DataFrame:
    """Rows of a group: by default of another entity each, forecast at noon as 0.25, with the label 0 known at six."""
    rows = [
        {
            **{"entity_id": f"e{at}", "forecast_at": NOON, "scored_at": NOON, "prediction_id": f"p{at}"},
            **{"forecast": 0.25, "label": 0.0, "outcome_known_at": NOON + 6 * HOUR, "response_time_ms": math.nan},
            **change,
        }
        for at, change in enumerate(changes)
    ]
    return in_order(pd.DataFrame(rows).astype({"outcome_known_at": "datetime64[us]", "label": "float64"}))


def whole(objective: Objective, *changes: dict[str, Any]) -> Quality:
    (found,) = quality(objective, forecasts(*changes), {})
    return found


@pytest.mark.parametrize(
    ("asked_at", "counts"),
    [
        ([NOON], [True]),
        ([NOON, NOON + HOUR], [False, True]),
        ([NOON + HOUR, NOON], [False, True]),  # whatever their order was
        ([NOON + 6 * HOUR - pd.Timedelta("1us")], [True]),
        ([NOON + 6 * HOUR], [False]),
        ([NOON, NOON + 6 * HOUR], [True, False]),
        ([NOON, NOON + 7 * HOUR], [True, False]),
        ([NOON + 7 * HOUR, NOON + 8 * HOUR], [False, False]),
    ],
)
def test_an_entity_counts_once_by_its_newest_forecast_before_its_outcome_was_known(
    asked_at: list[pd.Timestamp], counts: list[bool]
) -> None:
    rows = forecasts(*({"entity_id": "e", "forecast_at": at} for at in asked_at))
    assert counted(rows).tolist() == counts


def test_without_an_outcome_the_newest_forecast_counts_and_of_one_time_that_which_was_made_last() -> None:
    rows = forecasts(
        {"entity_id": "e", "prediction_id": "newest", "forecast_at": NOON + 9 * HOUR, **UNKNOWN},
        {"entity_id": "e", "prediction_id": "older", **UNKNOWN},
        {"entity_id": "f", "prediction_id": "again", "scored_at": NOON + HOUR},
        {"entity_id": "f", "prediction_id": "first"},
    )
    assert rows["prediction_id"][counted(rows)].tolist() == ["newest", "again"]


def test_a_day_without_labels_has_no_loss_and_not_a_loss_of_0() -> None:
    found = whole(BINARY, UNKNOWN, UNKNOWN)
    assert found == Quality(dimension="all", slice="all", rows=2, labelled=0, confidence=0.75)
    assert (found.loss, found.calibration, found.metrics, found.answers) == (None, None, None, None)


def test_entities_with_a_label_are_measured_and_those_without_are_counted() -> None:
    found = whole(BINARY, {"label": 1.0}, {"label": 0.0}, {"forecast": 0.9, **UNKNOWN})
    assert (found.rows, found.labelled) == (3, 2)
    assert found.loss == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)
    assert found.calibration == pytest.approx(0.25 - 0.5)
    assert found.confidence == pytest.approx((0.75 + 0.75 + 0.9) / 3)
    assert found.metrics is not None
    assert {*found.metrics} == {"label_mean", "log_loss", "brier", "accuracy", "auc", "calibration_error"}


def test_a_metric_that_is_undefined_is_left_out() -> None:
    found = whole(BINARY, {"label": 0.0})
    assert found.metrics is not None
    assert {*found.metrics} == {"label_mean", "log_loss", "brier", "accuracy", "calibration_error"}


def test_a_regression_is_measured_in_its_own_units_and_knows_no_confidence() -> None:
    found = whole(RENTALS, {"forecast": 30.0, "label": 20.0}, {"forecast": 50.0, "label": 50.0})
    assert found.loss == pytest.approx(0.5)  # squared errors of 1 and 0 in units of scale
    assert found.calibration == pytest.approx(5.0)
    assert found.confidence is None
    assert found.metrics is not None
    assert found.metrics["mae"] == pytest.approx(5.0)


@pytest.mark.parametrize(("forecast", "confidence"), [(0.69, 0.31), (0.7, 0.7), (0.71, 0.71)])
def test_confidence_is_the_probability_of_the_class_that_is_predicted(forecast: float, confidence: float) -> None:
    strict = BinaryClassification(positive="late", negative="on time", threshold=0.7)
    assert whole(strict, {"forecast": forecast}).confidence == pytest.approx(confidence)


def test_every_answer_counts_for_latency_also_one_that_is_no_forecast_any_more() -> None:
    late = {"entity_id": "e", "forecast_at": NOON + 7 * HOUR}
    found = whole(BINARY, *({**late, "response_time_ms": float(ms)} for ms in range(1, 21)))
    assert (found.rows, found.labelled, found.loss, found.confidence) == (0, 0, None, None)
    assert (found.answers, found.mean_latency_ms, found.p95_latency_ms) == (20, 10.5, 19.0)


def test_a_slice_has_its_own_rows_and_one_that_is_not_known_is_in_none() -> None:
    rows = forecasts({"label": 1.0}, {"label": 0.0}, {})
    airports = np.array(["JFK", "EWR", None], dtype=object)
    found = {(one.dimension, one.slice): one for one in quality(BINARY, rows, {"origin": airports})}
    assert [*found] == [("all", "all"), ("origin", "EWR"), ("origin", "JFK")]
    assert [one.rows for one in found.values()] == [3, 1, 1]
    assert found["origin", "JFK"].loss == pytest.approx(-math.log(0.25))


AS_OF = datetime(2013, 12, 1, tzinfo=UTC)
GROUP = Group(model_version=3, source="batch", day=DAY)


@pytest.mark.parametrize(
    ("digest", "before", "unseen_from", "due"),
    [
        (7, None, DAY, True),
        (7, (7, AS_OF), DAY, False),
        (8, (7, AS_OF), DAY, True),
        (8, (7, AS_OF + timedelta(microseconds=1)), DAY, False),  # what was known then is not forgotten
        (8, (7, AS_OF - timedelta(days=1)), DAY, True),
        (7, None, DAY - timedelta(days=1), True),
        (7, None, DAY + timedelta(days=1), False),  # it was trained on this day
        (7, None, None, False),  # nobody knows what it was trained on
    ],
)
def test_a_day_is_measured_if_it_changed_and_the_version_has_not_seen_it(
    digest: int, before: tuple[int, datetime] | None, unseen_from: date | None, due: bool
) -> None:
    measured = {} if before is None else {GROUP: Evidence(digest=before[0], as_of=before[1])}
    unseen = {} if unseen_from is None else {3: unseen_from}
    assert to_measure({GROUP: digest}, measured, unseen, AS_OF) == ([GROUP] if due else [])


def test_groups_are_measured_in_order() -> None:
    groups = [
        Group(model_version=version, source=source, day=DAY + timedelta(days=day))
        for version in (1, 2)
        for source in ("batch", "serving")
        for day in (0, 1)
    ]
    assert to_measure(dict.fromkeys(reversed(groups), 1), {}, {1: DAY, 2: DAY}, AS_OF) == groups


def test_a_challengers_predictions_have_the_columns_of_the_champions() -> None:
    declared = declarations(USE_CASE.sql)
    ours, others = (
        [column[:3] for column in columns(declared[name])] for name in ("predictions", "shadow_predictions")
    )
    assert ours == others
