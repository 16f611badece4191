"""An explanation, in memory, of the second use case: what is the same, what differs, what is gone."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.bike_tables import raw_tables
from tests.bikes import USE_CASE
from tests.raw import changed

from flight_delays.core.columns import Columns
from flight_delays.core.explanation import (
    Evidence,
    Explanation,
    Gone,
    Known,
    Logged,
    Model,
    Outcome,
    Stored,
    explain,
)
from flight_delays.core.prediction import Recorded
from flight_delays.core.scoring import inputs_of
from flight_delays.core.signature import Column, Signature

SAME, DIFFERS, UNKNOWN = Outcome
AT = datetime(2011, 3, 8, 12, tzinfo=UTC)  # it is asked about the hour six hours later
HOUR = "2011-03-08T18Z"
REQUEST = {"begins_at": "2011-03-08T18:00:00", "holiday": 0, "workingday": 1}
LEFT_OUT = USE_CASE.looked_up


def score(columns: Columns) -> Columns:
    """Hangs on every number, in its last bits."""
    numbers = [np.asarray(columns.get(name, [np.nan]), dtype="float64") for name in LEFT_OUT]
    return {"prediction": np.sum([np.nan_to_num(one) * (at + 1) / 7 for at, one in enumerate(numbers)], axis=0)}


MODEL = Model(signature=USE_CASE.signature, score=score, digest="0a1b")
LOST = Gone(what="version 3 of bikes", why="model bikes has no version 3")


@cache
def known() -> Known:
    """What was landed up to two days after."""
    rows = raw_tables(AT + timedelta(days=2))
    hours = rows["raw_hours"]
    return Known(place="raw tables", asking=hours.filter(pc.equal(hours["hour_id"], HOUR)), rows=rows)


@cache
def features() -> pa.Table:
    return USE_CASE.features.build(known().asking, known().rows)


def evidence(source: str = "batch", **instead: object) -> Evidence:
    """Of a prediction of which nothing is lost, but for what is given `instead`."""
    (forecast,) = score(inputs_of(MODEL.signature, features()))["prediction"]
    prediction = Recorded(
        prediction_id="id",
        entity_id=HOUR,
        prediction_ts=AT,
        model_name="bikes",
        model_version=3,
        scored_at=AT,
        probability=None,
        prediction=float(forecast),
        source=source,
        run_id="run",
    )
    whole = Evidence(
        prediction=prediction, model=MODEL, known=[known()], stored=[Stored(place="features", row=features())]
    )
    return replace(whole, **instead)  # type: ignore[arg-type]


def outcomes(explained: Explanation) -> dict[str, Outcome]:
    return {check.what: check.outcome for check in explained.checks}


def lines(explained: Explanation) -> list[str]:
    return [line for check in explained.checks for line in check.lines]


def with_column(row: pa.Table, name: str, value: float | None) -> pa.Table:
    return row.set_column(row.schema.get_field_index(name), name, pa.array([value], pa.float64()))


def test_features_and_forecast_come_out_again_to_the_last_bit() -> None:
    explained = explain(USE_CASE, evidence())
    assert outcomes(explained) == {
        "12 columns of features, recomputed from raw tables": SAME,
        "forecast from raw tables": SAME,
        "forecast from features": SAME,
    }
    assert explained.is_same
    assert (explained.gone, lines(explained)) == ((), [])
    assert {one.name: (one.stored, one.recomputed) for one in explained.values}["last_hour"] == (45.0, 45.0)


def test_each_raw_row_that_was_taken_is_told_with_the_time_it_became_known() -> None:
    facts = explain(USE_CASE, evidence()).facts
    told = [(one.table, one.answers, one.event_time, one.known_at, one.values) for one in facts if one.is_newest]
    eleven = AT - timedelta(hours=1)
    assert told == [
        (
            "raw_conditions",
            ("severity", "temp", "hum", "windspeed"),
            eleven,
            AT,
            {"severity": 0.0, "temp": 0.2, "hum": 0.59, "windspeed": 0.0},
        ),
        ("raw_hours", ("last_hour",), AT, AT, {"bikers": 45}),
        ("raw_hours", ("same_hour",), AT - timedelta(hours=17), AT - timedelta(hours=17), {"bikers": 70}),
        (
            "raw_hours",
            ("same_hour_last_week",),
            AT - timedelta(days=6, hours=17),
            AT - timedelta(days=6, hours=17),
            {"bikers": 78},
        ),
    ]
    assert facts[0].key == {"city": "Washington", "begins_at": eleven}
    sums = [one for one in facts if "hours" in one.answers]
    assert len(sums) == 24
    assert {one.known_at for one in sums} == {AT - timedelta(hours=hours) for hours in range(24)}
    assert sum(int(str(one.values["rented"])) for one in sums) / 24 == features()["mean_24h"][0].as_py()


def corrected(at: datetime, **values: float) -> Known:
    """With newer rows for the last hour's conditions, known at a time."""
    rows = known().rows
    conditions = rows["raw_conditions"]
    last = conditions.filter(pc.equal(conditions["begins_at"], pa.scalar(AT - timedelta(hours=1))))
    instead = {name: np.array([value]) for name, value in values.items()}
    moment = np.datetime64(at.replace(tzinfo=None), "us")
    newer = changed(last, lambda _: {**instead, "known_at": np.array([moment])})
    return replace(known(), rows={**rows, "raw_conditions": pa.concat_tables([conditions, newer])})


@pytest.mark.parametrize(
    ("after", "outcome"), [(timedelta(microseconds=1), SAME), (timedelta(0), DIFFERS)], ids=["later", "by then"]
)
def test_a_correction_that_became_known_later_changes_nothing_and_is_told(after: timedelta, outcome: Outcome) -> None:
    explained = explain(USE_CASE, evidence(known=[corrected(AT + after, temp=0.9)]))
    assert outcomes(explained)["forecast from raw tables"] is outcome
    assert explained.facts[0].corrected_at == (AT + after if outcome is SAME else None)
    assert explained.is_same is (outcome is SAME)
    assert [one.corrected_at for one in explained.facts[1:4]] == [None, None, None]


def test_of_a_raw_row_that_was_overwritten_exactly_what_differs_is_told() -> None:
    rows = known().rows
    other = changed(rows["raw_conditions"], lambda conditions: {"hum": conditions["hum"] / 2})
    explained = explain(USE_CASE, evidence(known=[replace(known(), rows={**rows, "raw_conditions": other})]))
    made = evidence().prediction.prediction
    again = made - 0.295 * 3 / 7
    assert outcomes(explained) == {
        "12 columns of features, recomputed from raw tables": DIFFERS,
        "forecast from raw tables": DIFFERS,
        "forecast from features": SAME,  # so the model is the same, and the data are not
    }
    first, second = lines(explained)
    assert first == "weather_hum: 0.59 stored, 0.295 recomputed"
    assert second.startswith(f"prediction: {made!r} stored, ")
    assert float(second.split()[-2]) == pytest.approx(again)
    assert not explained.is_same


@pytest.mark.parametrize("up", [np.inf, -np.inf])
def test_a_difference_in_the_last_bit_is_one(up: float) -> None:
    near = float(np.nextafter(0.59, up))
    row = with_column(features(), "weather_hum", near)
    explained = explain(USE_CASE, evidence(stored=[Stored(place="features", row=row)]))
    assert lines(explained)[0] == f"weather_hum: {near!r} stored, 0.59 recomputed"
    whole = evidence()
    other = float(np.nextafter(whole.prediction.prediction, up))
    explained = explain(USE_CASE, replace(whole, prediction=replace(whole.prediction, prediction=other)))
    assert outcomes(explained)["forecast from raw tables"] is DIFFERS
    assert not explained.is_same


@pytest.mark.parametrize(
    ("stored", "made"),
    [(None, "0.59"), (0.0, "-0.0"), (-0.0, "0.0")],
    ids=["null", "zero", "minus zero"],
)
def test_null_and_the_sign_of_zero_are_told_apart(stored: float | None, made: str) -> None:
    rows = known().rows
    other = changed(rows["raw_conditions"], lambda of: {"hum": np.full_like(of["hum"], float(made))})
    row = with_column(features(), "weather_hum", stored)
    explained = explain(
        USE_CASE,
        evidence(known=[replace(known(), rows={**rows, "raw_conditions": other})], stored=[Stored(place="f", row=row)]),
    )
    assert lines(explained)[0] == f"weather_hum: {stored!r} stored, {made} recomputed"


@pytest.mark.parametrize(
    ("recorded", "found"),
    [
        (None, []),
        ("0a1b", [(SAME, ())]),
        ("0a1c", [(DIFFERS, ("digest: '0a1c' stored, '0a1b' recomputed",))]),
    ],
)
def test_a_version_whose_files_are_others_than_were_registered_is_told(
    recorded: str | None, found: list[tuple[Outcome, tuple[str, ...]]]
) -> None:
    explained = explain(USE_CASE, evidence(digest=recorded))
    checks = [check for check in explained.checks if check.what == "files of the version"]
    assert [(check.outcome, check.lines) for check in checks] == found
    assert explained.is_same is (recorded != "0a1c")


def test_without_the_version_the_features_can_still_be_checked() -> None:
    explained = explain(USE_CASE, evidence(model=LOST))
    why = "version 3 of bikes: model bikes has no version 3"
    assert [(check.outcome, check.lines) for check in explained.checks] == [
        (SAME, ()),
        (UNKNOWN, (why,)),
        (UNKNOWN, (why,)),
    ]
    assert explained.gone == (LOST,)
    assert not explained.is_same


def test_without_raw_rows_the_forecast_can_still_be_made_from_the_stored_features() -> None:
    gone = Gone(what="raw tables", why="vacuumed")
    explained = explain(USE_CASE, evidence(known=[gone]))
    assert outcomes(explained) == {"features and forecast": UNKNOWN, "forecast from features": SAME}
    assert (explained.gone, explained.facts) == ((gone,), ())
    assert not explained.is_same  # what was not measured is no success


def test_without_stored_features_the_forecast_shows_whether_they_are_the_same() -> None:
    gone = Gone(what="features at version 2", why="vacuumed")
    explained = explain(USE_CASE, evidence(stored=[gone]))
    assert outcomes(explained) == {"forecast from raw tables": SAME}
    assert explained.gone == (gone,)
    assert explained.is_same


def test_features_as_they_are_now_stand_in_for_those_that_are_gone() -> None:
    gone, now = Gone(what="features at version 2", why="vacuumed"), Stored(place="features now", row=features())
    assert "forecast from features now" in outcomes(explain(USE_CASE, evidence(stored=[gone, now])))


OTHER = corrected(AT, temp=0.9)


@pytest.mark.parametrize(
    ("first", "found", "same"),
    [
        (known(), {"forecast from raw tables": SAME}, True),
        (Gone(what="then", why="vacuumed"), {"forecast from now": SAME}, True),
        (replace(OTHER, place="then"), {"forecast from then": DIFFERS, "forecast from now": SAME}, False),
    ],
    ids=["what it had", "that is gone", "that says otherwise"],
)
def test_of_a_stream_what_its_micro_batch_had_comes_first_and_then_the_raw_tables_as_they_are(
    first: Known | Gone, found: Mapping[str, Outcome], same: bool
) -> None:
    explained = explain(USE_CASE, evidence("stream", known=[first, replace(known(), place="now")], stored=[]))
    assert (outcomes(explained), explained.is_same) == (found, same)


def test_a_version_that_takes_what_this_code_does_not_compute_says_which_columns() -> None:
    more = replace(MODEL.signature, inputs=(*MODEL.signature.inputs, Column(name="wind_chill", type="double")))
    explained = explain(USE_CASE, evidence(model=replace(MODEL, signature=more), stored=[]))
    (check,) = explained.checks
    assert check.outcome is UNKNOWN
    assert check.lines == ("the version takes wind_chill, which the code installed here does not compute",)


def test_a_version_that_raises_is_told_without_a_traceback() -> None:
    def broken(_: Columns) -> Columns:
        raise ValueError("a library has changed")

    (check,) = explain(USE_CASE, evidence(model=replace(MODEL, score=broken), stored=[])).checks
    assert (check.outcome, check.lines) == (UNKNOWN, ("the version raised ValueError: a library has changed",))


def served(request: object, position: int = 1, **instead: object) -> Evidence:
    """A request that was answered with the features of HOUR."""
    return evidence("serving", logged=Logged(request=json.dumps(request), position=position), **instead)


def all_columns() -> dict[str, object]:
    return {**REQUEST, **{name: features()[name][0].as_py() for name in LEFT_OUT}}


def test_a_request_that_had_all_columns_is_answered_again_from_the_log_alone() -> None:
    other = {**all_columns(), "weather_hum": 0.1}
    explained = explain(
        USE_CASE, served({"dataframe_records": [other, all_columns()]}, position=2, known=[], stored=[])
    )
    assert outcomes(explained) == {"forecast from the logged request, which has all columns": SAME}
    assert explained.is_same
    told = {one.name: one.stored for one in explained.values}
    assert (told["begins_at"], told["weather_hum"]) == (datetime(2011, 3, 8, 18, tzinfo=UTC), 0.59)
    explained = explain(USE_CASE, served({"dataframe_records": [other, all_columns()]}, position=1))
    assert outcomes(explained) == {"forecast from the logged request, which has all columns": DIFFERS}


UNPROVEN = "what the online store answered for 9 columns is not stored: likely this, unproven"
WITHOUT = {"dataframe_records": [REQUEST]}


def made_of(forecast: Callable[[], Columns], found: Evidence) -> Evidence:
    return replace(found, prediction=replace(found.prediction, prediction=float(forecast()["prediction"][0])))


def test_what_the_online_store_answered_is_tried_out_and_never_claimed() -> None:
    explained = explain(USE_CASE, served(WITHOUT))
    assert outcomes(explained) == {
        "12 columns of features, recomputed from raw tables": SAME,
        "forecast from the logged request, and features": SAME,
    }
    assert (lines(explained), explained.is_same) == ([UNPROVEN], True)
    nothing = made_of(lambda: score({}), served(WITHOUT, known=[], stored=[]))
    explained = explain(USE_CASE, nothing)
    assert outcomes(explained) == {"forecast from the logged request, and null for what it left out": SAME}
    assert lines(explained) == [UNPROVEN]


def test_where_no_row_gives_the_forecast_that_is_no_difference_but_not_known() -> None:
    found = made_of(lambda: {"prediction": np.array([1.5])}, served(WITHOUT))
    explained = explain(USE_CASE, found)
    check = explained.checks[-1]
    assert (check.what, check.outcome) == ("forecast from the logged request", UNKNOWN)
    assert check.lines[0].startswith("what the online store answered for weather_severity, weather_temp, ")
    assert check.lines[0].endswith(" is not stored, and no row that is gives the same")
    assert check.lines[-1] == "with null for what it left out: prediction: 1.5 stored, 0.0 recomputed"
    assert not explained.is_same


@pytest.mark.parametrize(
    ("logged", "why"),
    [
        (Gone(what="the logged request", why="deleted"), "the request is gone"),
        (Logged(request="{", position=1), "the request can't be read: the body is invalid JSON, at line 1, column 2"),
    ],
)
def test_without_its_request_nothing_of_a_served_prediction_can_be_checked(logged: Logged | Gone, why: str) -> None:
    explained = explain(USE_CASE, evidence("serving", logged=logged))
    (check,) = explained.checks
    assert (check.outcome, check.lines) == (UNKNOWN, (why,))
    assert not explained.is_same


def test_without_its_version_a_request_is_read_by_what_this_code_takes() -> None:
    explained = explain(USE_CASE, served(WITHOUT, model=LOST))
    assert {one.name: one.stored for one in explained.values}["workingday"] == 1
    assert outcomes(explained)["forecast from the logged request"] is UNKNOWN


def test_only_columns_that_the_version_takes_are_compared() -> None:
    fewer = Signature(inputs=MODEL.signature.inputs[:-1], outputs=MODEL.signature.outputs)
    row = with_column(features(), MODEL.signature.inputs[-1].name, 1.5)
    explained = explain(
        USE_CASE, evidence(model=replace(MODEL, signature=fewer), stored=[Stored(place="features", row=row)])
    )
    assert explained.checks[0].outcome is SAME
