"""What callers and operators of a version rely on."""

import math
from dataclasses import replace

import pytest
from tests.contexts import POLICY

from flight_delays.core.contract import (
    GOLDEN_TOLERANCE,
    Documentation,
    documented,
    fast_enough,
    golden_answers_hold,
    schema_compatible,
    small_enough,
)
from flight_delays.core.gates import Outcome
from flight_delays.core.signature import Column, Signature

PASS, FAIL = Outcome.PASS, Outcome.FAIL


def columns(text: str) -> tuple[Column, ...]:
    """`name:type`, a question mark after what may be left out."""
    return tuple(
        Column(name=name, type=kind.removesuffix("?"), required=not kind.endswith("?"))
        for name, _, kind in (column.partition(":") for column in text.split())
    )


def signature(inputs: str, outputs: str = "probability:double prediction:long") -> Signature:
    return Signature(inputs=columns(inputs), outputs=columns(outputs))


CHAMPION = signature("origin:string distance:long seats:double?")


@pytest.mark.parametrize(
    ("candidate", "trouble"),
    [
        (CHAMPION, None),
        (signature("origin:string distance:long seats:double? gust:double?"), None),  # may be left out
        (signature("origin:string"), None),  # what it does not take is not read
        (signature("origin:string? distance:long seats:double?"), None),
        (replace(CHAMPION, outputs=columns("probability:double prediction:long why:string")), None),
        (signature("origin:string gust:double"), "input gust is newly required"),
        (signature("origin:string seats:double"), "input seats is newly required"),
        (signature("origin:long"), "input origin is long, was string"),
        (signature("seats:long?"), "input seats is long, was double"),
        (signature("origin:string", "probability:double"), "output prediction is gone"),
        (signature("origin:string", "probability:float prediction:long"), "output probability is float, was double"),
        (
            signature("origin:long gust:double", "probability:double"),
            "input origin is long, was string; input gust is newly required; output prediction is gone",
        ),
    ],
)
def test_whoever_calls_the_champion_can_call_the_candidate(candidate: Signature, trouble: str | None) -> None:
    check = schema_compatible(candidate, CHAMPION)
    assert (check.name, check.outcome) == ("schema_compatible", FAIL if trouble else PASS)
    assert check.reason == (trouble or "every request to the champion is one to this version")


def test_where_no_version_serves_any_schema_will_do() -> None:
    check = schema_compatible(CHAMPION, None)
    assert (check.outcome, check.reason) == (PASS, "no version serves yet: nobody has to be answered as before")


@pytest.mark.parametrize(
    ("furthest", "outcome"),
    [(0.0, PASS), (GOLDEN_TOLERANCE, PASS), (1.01 * GOLDEN_TOLERANCE, FAIL), (0.5, FAIL), (math.nan, FAIL)],
)
def test_golden_requests_are_answered_as_recorded(furthest: float, outcome: Outcome) -> None:
    check = golden_answers_hold(furthest)
    assert (check.name, check.outcome) == ("golden_requests", outcome)


@pytest.mark.parametrize(("value", "outcome"), [(0.9, PASS), (1.0, PASS), (1.01, FAIL), (math.nan, FAIL)])
def test_time_and_size_are_at_most_the_limit(value: float, outcome: Outcome) -> None:
    fast, small = fast_enough(value * POLICY.max_latency_ms, POLICY), small_enough(value * POLICY.max_size_mb, POLICY)
    assert (fast.name, fast.outcome) == ("fast_enough", outcome)
    assert (small.name, small.outcome) == ("small_enough", outcome)


def test_time_and_size_are_told_beside_the_reason_so_that_two_machines_give_the_same_one() -> None:
    fast, faster = fast_enough(3.5, POLICY), fast_enough(2.5, POLICY)
    assert (fast.measured, faster.measured) == ({"latency_ms": 3.5}, {"latency_ms": 2.5})
    assert replace(fast, measured={}) == replace(faster, measured={})
    assert fast_enough(2_500, POLICY).in_words == "one request takes more than 1000 ms; latency_ms 2500"
    assert small_enough(1.25, POLICY).in_words == "the model's files take at most 100 MB; size_mb 1.25"


COMPLETE = Documentation(
    description="A model.",
    tags={"git_commit": "0a1b2c3", "trained_until": "2013-10-01", "baseline": "0.2"},
    lineage={"features": 3, "labels": 0},
    files=frozenset({"model_card.md", "plots"}),
)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({}, None),
        ({"description": " "}, "a description"),
        ({"tags": {**COMPLETE.tags, "git_commit": ""}}, "the tag git_commit"),
        ({"tags": {}}, "the tag git_commit, the tag trained_until, the tag baseline"),
        ({"lineage": {}}, "the tables it was trained on"),
        ({"lineage": {"features": 3, "labels": None}}, "the version of labels"),
        ({"files": frozenset({"plots"})}, "model_card.md"),
        ({"description": "", "files": frozenset()}, "a description, model_card.md"),
    ],
)
def test_each_thing_that_is_not_documented_is_named(change: dict[str, object], missing: str | None) -> None:
    check = documented(replace(COMPLETE, **change), POLICY)
    assert (check.name, check.outcome) == ("documented", FAIL if missing else PASS)
    if missing:
        assert check.reason == f"missing: {missing}; register it by the train job"


@pytest.mark.parametrize(
    ("commit", "allowed", "outcome"),
    [
        ("0a1b2c3", False, PASS),
        ("0a1b2c3+dirty.0123456789ab", False, FAIL),
        ("+dirty.0123456789ab", False, FAIL),
        ("0a1b2c3+dirty.0123456789ab", True, PASS),
    ],
)
def test_uncommitted_code_makes_no_version_that_may_serve_unless_allowed(
    commit: str, allowed: bool, outcome: Outcome
) -> None:
    found = replace(COMPLETE, tags={**COMPLETE.tags, "git_commit": commit})
    check = documented(found, replace(POLICY, allow_uncommitted=allowed))
    assert check.outcome == outcome
    if outcome == FAIL:
        assert check.reason == "it was made of uncommitted code; commit it, deploy, and run the train job"
