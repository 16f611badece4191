"""Two versions are compared on the same requests, with the columns that the champion had."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from tests.contexts import ROLLOUT

from flight_delays.core import clocks
from flight_delays.core.columns import Columns
from flight_delays.core.objective import BinaryClassification, Objective, Regression
from flight_delays.core.paired import CHANGED, Logged, Paired, logged, paired
from flight_delays.core.rollout import Signal
from flight_delays.core.scoring_request import RequestParser
from flight_delays.core.signature import Column, Signature

PARSER = RequestParser(
    Signature(
        inputs=(Column(name="id", type="string"), *(Column(name=one, type="double", required=False) for one in "xz")),
        outputs=(Column(name="probability", type="double"), Column(name="prediction", type="long")),
    ),
    max_rows=9,
)
BINARY = BinaryClassification(positive="late", negative="on time")
ABSENT: Any = object()
NO_ANSWER = "the response has no prediction, or not one for each row of the request"


@dataclass(frozen=True)
class Model:
    """The probability is x, or 0.5 without it, and `plus`; it fails at ids of one of the letters `fails_at`."""

    plus: float = 0.0
    fails_at: str = ""
    looked_up: tuple[str, ...] = ("x",)

    def score(self, columns: Columns) -> Columns:
        for one in columns["id"]:
            if one in self.fails_at:
                raise ValueError(f"no id {one}")
        probability = np.where(np.isnan(columns["x"]), 0.5, columns["x"]) + self.plus
        return {"probability": probability, "prediction": (probability >= 0.5).astype("int64")}


@dataclass(frozen=True)
class Odd:
    """It scores in a way of its own."""

    score: Callable[[Columns], Columns]
    looked_up: tuple[str, ...] = ("x",)


def request(*rows: tuple[str, object]) -> str:
    told = [{"id": one, **({} if x is ABSENT else {"x": x})} for one, x in rows]
    return json.dumps({"dataframe_records": told})


def response(*probabilities: float | None) -> str:
    return json.dumps({"predictions": [{"probability": p, "prediction": int((p or 0) >= 0.5)} for p in probabilities]})


def read(*payloads: tuple[str | None, str | None], limit: int = 9, outputs: Objective = BINARY) -> Logged:
    return logged(payloads, PARSER, ["x"], lambda columns: columns["id"].tolist(), [*outputs.outputs], limit=limit)


def compared(*payloads: tuple[str | None, str | None], challenger: Model | Odd, **known: float) -> Paired:
    return paired(read(*payloads), {key: [x] for key, x in known.items()}, Model(), challenger, BINARY)


def test_requests_that_cannot_be_read_are_counted_by_reason() -> None:
    found = read(
        (request(("a", 0.25), ("b", None)), response(0.25, 0.5)),
        (None, response(0.5)),
        (request(("c", 0.5)), None),
        (request(("c", 0.5)), response(0.5, 0.5)),
        (request(("c", 0.5)), response(None)),
        (request(("d", ABSENT)), response(0.75)),
    )
    assert found.entities.tolist() == ["a", "b", "d"]
    assert found.answers["probability"].tolist() == [0.25, 0.5, 0.75]
    assert found.given["x"].tolist() == [True, True, False]
    assert found.left_out == {"the body is invalid JSON, at line 1, column 1": 1, NO_ANSWER: 3}


@pytest.mark.parametrize(
    ("limit", "entities", "unread"),
    [(1, ["a"], 0), (2, ["a", "b"], 0), (3, ["a", "b", "c"], 0), (4, ["a", "b", "c"], 1)],
)
def test_the_limit_is_on_rows(limit: int, entities: list[str], unread: int) -> None:
    two, one = request(("a", 0.1), ("b", 0.2)), request(("c", 0.3))
    found = read((two, response(0.1, 0.2)), (one, response(0.3)), (one, None), limit=limit)
    assert sum(found.left_out.values()) == unread  # what comes after is not read
    assert found.entities.tolist() == entities
    assert {len(values) for values in (*found.columns.values(), *found.answers.values(), found.given["x"])} == {
        len(entities)
    }


@pytest.mark.parametrize(
    ("x", "known", "answer", "challenger"),
    [
        (0.3, {}, 0.3, 0.4),
        (0.3, {"a": 0.2}, 0.3, 0.4),  # what was given stays
        (None, {"a": 0.2}, 0.5, 0.6),  # a null too
        (ABSENT, {"a": 0.2}, 0.2, 0.3),
        (ABSENT, {"a": 0.2}, 0.5, 0.6),  # the service found nothing
        (ABSENT, {}, 0.5, 0.6),
        (ABSENT, {"a": None}, 0.5, 0.6),
        (ABSENT, {"b": 0.2}, 0.2, None),
        (ABSENT, {"a": 0.2}, 0.1, None),
        (0.3, {}, 0.3 + 0.9e-9, 0.4),
        (0.3, {}, 0.3 + 1.1e-9, None),
    ],
)
def test_the_challenger_sees_what_gives_the_champions_logged_answer(
    x: float | None, known: dict[str, float], answer: float, challenger: float | None
) -> None:
    found = compared((request(("a", x)), response(answer)), challenger=Model(plus=0.1), **known)
    assert found.entities.tolist() == ["a"] * (challenger is not None)
    assert found.champion.tolist() == [answer] * (challenger is not None)
    assert found.challenger == pytest.approx([challenger] * (challenger is not None))
    assert found.left_out == ({CHANGED: 1} if challenger is None else {})


def test_columns_are_told_apart_row_by_row() -> None:
    rows = request(("a", ABSENT), ("b", ABSENT), ("c", ABSENT))
    payloads = (rows, response(0.2, 0.5, 0.4)), (rows, None)
    found = compared(*payloads, challenger=Model(plus=0.1), a=0.2, b=0.3, c=0.3)
    assert found.entities.tolist() == ["a", "b"]
    assert found.challenger == pytest.approx([0.3, 0.6])
    assert found.left_out == {NO_ANSWER: 1, CHANGED: 1}


@dataclass(frozen=True)
class Sum:
    """The probability is x and z."""

    looked_up: tuple[str, ...] = ("x", "z")

    def score(self, columns: Columns) -> Columns:
        probability = columns["x"] + columns["z"]
        return {"probability": probability, "prediction": probability >= 0.5}


def test_what_a_request_gives_stays_beside_what_is_looked_up() -> None:
    payload = request(("a", 0.1)), response(0.3)
    rows = logged([payload], PARSER, ["x", "z"], lambda columns: columns["id"].tolist(), [*BINARY.outputs], limit=9)
    found = paired(rows, {"a": [0.5, 0.2]}, Sum(), Sum(), BINARY)
    assert found.challenger == pytest.approx([0.3])


def test_decisions_are_those_of_each_version() -> None:
    found = compared((request(("a", 0.45), ("b", 0.1)), response(0.45, 0.1)), challenger=Model(plus=0.1))
    assert found.decisions is not None
    assert [each.tolist() for each in found.decisions] == [[False, False], [True, False]]


def one_for_all(columns: Columns) -> Columns:
    return {"probability": np.array([len(columns["id"]) / 10]), "prediction": np.array([1])}


@pytest.mark.parametrize(
    ("score", "failed", "why", "forecasts"),
    [
        (Model().score, 0, None, [0.1, 0.6, 0.9]),
        (Model(fails_at="b").score, 1, "ValueError: no id b", [0.1, np.nan, 0.9]),
        (Model(fails_at="bc").score, 2, "ValueError: no id b", [0.1, np.nan, np.nan]),
        (lambda columns: columns["z"], 3, "KeyError: 'z'", [np.nan] * 3),
        (lambda _: {"probability": np.array([0.5])}, 3, "KeyError: 'prediction'", [np.nan] * 3),
        (one_for_all, 0, None, [0.1, 0.1, 0.1]),  # asked row by row
    ],
)
def test_a_challenger_that_cannot_answer_does_not_agree(
    score: Callable[[Columns], Columns], failed: int, why: str | None, forecasts: list[float]
) -> None:
    payload = (request(("a", 0.1), ("b", 0.6), ("c", 0.9)), response(0.1, 0.6, 0.9))
    found = compared(payload, challenger=Odd(score))
    assert (found.failed, found.why) == (failed, why)
    np.testing.assert_array_equal(found.challenger, forecasts)
    assert found.decisions is not None
    missing = np.isnan(forecasts)
    assert (found.decisions[0] != found.decisions[1])[missing].all()
    findings = clocks.agreement(
        found.entities,
        found.champion,
        found.challenger,
        found.decisions,
        replace(ROLLOUT, rollout_min_requests=3, max_mean_shift=1),
    )
    assert (findings[0].signal == Signal.WORSE) == bool(failed)


def test_no_requests_are_no_rows() -> None:
    found = compared((None, None), challenger=Model(fails_at="a"))
    assert len(found.entities) == len(found.champion) == len(found.challenger) == found.failed == 0


def test_a_regression_has_no_decisions() -> None:
    @dataclass(frozen=True)
    class Same:
        looked_up = ("x",)

        def score(self, columns: Columns) -> Columns:
            return {"prediction": columns["x"]}

    kind = Regression(unit="min", scale=1)
    rows = read((request(("a", 7.5)), response(0.1).replace('"prediction": 0', '"prediction": 7.5')), outputs=kind)
    found = paired(rows, {}, Same(), Same(), kind)
    assert (found.champion.tolist(), found.challenger.tolist(), found.decisions) == ([7.5], [7.5], None)
