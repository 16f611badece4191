"""What a reviewer reads of a change to the model: three pull requests on real rentals, and the words of each case."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.bike_tables import raw_tables
from tests.bikes import USE_CASE

from flight_delays.core.bootstrap import Interval
from flight_delays.core.errors import UserError
from flight_delays.core.gates import Slice, SliceOutcome
from flight_delays.core.model_diff import Diff, Golden
from flight_delays.core.settings import ModelDiff
from flight_delays.core.splits import split_at
from flight_delays.core.training import fit
from flight_delays.core.tries import Comparison
from flight_delays.platform.registry import Registry
from flight_delays.tasks.model_diff import run
from flight_delays.tasks.record import record
from flight_delays.tasks.try_out import labelled_now
from flight_delays.views.model_diff import model_diff

AS_OF = datetime(2011, 4, 20, 4, tzinfo=UTC)
HOLDOUT_DAYS = 20
EXPERIMENT = "experiment"
USEFUL = ("last_hour", "same_hour", "same_hour_last_week", "mean_24h")
USELESS = USE_CASE.looked_up[0]
RAW = raw_tables(AS_OF)
Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return labelled_now(USE_CASE, RAW.__getitem__, AS_OF)


def without(*columns: str) -> Change:
    return lambda rows: rows.assign(**dict.fromkeys(columns, np.nan))


def chance(rows: pd.DataFrame) -> pd.DataFrame:
    """A feature that says nothing."""
    return rows.assign(**{USELESS: np.random.default_rng(1).normal(size=len(rows))})


def as_it_is(rows: pd.DataFrame) -> pd.DataFrame:
    return rows


def registered(registry: Registry, name: str, rows: pd.DataFrame) -> int:
    """Trained as the job trains, in its own way of keeping what it takes to compare."""
    first = USE_CASE.holdout(AS_OF, HOLDOUT_DAYS).first
    split = split_at(rows, first, USE_CASE.zone)
    with tempfile.TemporaryDirectory() as folder:
        training, _ = record(
            fit(USE_CASE, split.training, until=first, trials=1),
            split=split,
            versions={},
            settings={},
            model_name=name,
            fingerprint=f"{name} {pd.util.hash_pandas_object(rows).sum()}",
            git_commit="c0ffee",
            folder=Path(folder),
        )
        return registry.register(EXPERIMENT, name, training)


@pytest.mark.parametrize(
    ("base", "change", "conclusions"),
    [
        (without(*USEFUL), as_it_is, {"better"}),
        (as_it_is, as_it_is, {"no different"}),
        (without(USELESS), chance, {"no different", "worse: do not release"}),
        (as_it_is, without(*USEFUL), {"worse: do not release"}),
    ],
    ids=["an improvement", "no difference", "a useless feature", "features lost"],
)
def test_each_change_gets_the_conclusion_that_is_right(
    registry: Registry,
    rows: pd.DataFrame,
    base: Change,
    change: Change,
    conclusions: set[str],
    request: pytest.FixtureRequest,
) -> None:
    name = f"diff {request.node.callspec.id}"
    registry.client.create_registered_model(name)
    registry.set_alias(name, "champion", registered(registry, name, base(rows)))
    registered(registry, name, change(rows))
    settings = ModelDiff(raw_tables="raw", model_name=name, as_of=AS_OF, file=Path("unused"))
    diff = run(USE_CASE, settings, read=RAW.__getitem__, registry=registry)
    assert diff.conclusion in conclusions
    assert (diff.version, diff.champion, diff.commit) == (2, 1, "c0ffee")
    assert diff.golden.requests > 0
    assert (diff.golden.differ == 0) == (base is change)
    text = model_diff(USE_CASE, diff)
    assert text.startswith(f"## Model diff: {diff.conclusion}\n")
    if diff.found is not None:
        assert str(diff.found.worse_by) in text


def test_without_a_champion_there_is_nothing_to_compare_with(registry: Registry) -> None:
    registry.client.create_registered_model("diff of nothing")
    settings = ModelDiff(raw_tables="raw", model_name="diff of nothing", as_of=AS_OF, file=Path("unused"))
    with pytest.raises(UserError, match="no version of diff of nothing serves yet: there is nothing to compare with"):
        run(USE_CASE, settings, read=RAW.__getitem__, registry=registry)


def found(low: float, high: float) -> Comparison:
    moved = Interval(low=0.01, estimate=0.02, high=0.03)
    one = Slice(dimension="hour", value="8", rows=100, days=20, outcome=SliceOutcome.WORSE, worse_by=moved)
    return Comparison(
        rows=1_000,
        days=50,
        loss=0.2,
        champion_loss=0.2,
        worse_by=Interval(low=low, estimate=(low + high) / 2, high=high),
        slices=(one, replace(one, value="9", worse_by=Interval(low=-0.01, estimate=0.0, high=0.01))),
    )


DIFF = Diff(
    name="delay",
    version=8,
    champion=7,
    commit="c0ffee",
    new_columns=("is_long",),
    lost_columns=(),
    found=found(-0.01, 0.01),
    golden=Golden(requests=20, differ=3, mean=0.01, furthest=0.05),
)


@pytest.mark.parametrize(
    ("change", "conclusion", "is_worse"),
    [
        ({"found": found(-0.02, -1e-9)}, "better", False),
        ({"found": found(-0.02, 0.0)}, "no different", False),
        ({"found": found(0.0, 0.02)}, "no different", False),
        ({"found": found(1e-9, 0.02)}, "worse: do not release", True),
        ({"found": None}, "no different", False),
        (
            {"found": found(-0.02, -0.01), "golden": Golden(requests=20, failed="KeyError: 'origin'")},
            "it fails on requests that the champion answers: do not release",
            False,
        ),
    ],
)
def test_the_conclusion_follows_from_the_bounds_and_the_golden_requests(
    change: dict[str, object], conclusion: str, is_worse: bool
) -> None:
    diff = replace(DIFF, **change)
    assert (diff.conclusion, diff.is_worse) == (conclusion, is_worse)


def test_a_reviewer_sees_slices_that_moved_new_features_and_answers_that_differ() -> None:
    text = model_diff(USE_CASE, DIFF)
    assert "| hour 8 | 100 | 20 | 0.0200 [0.0100, 0.0300] |" in text
    assert "hour 9" not in text
    assert "New features: `is_long`." in text
    assert "gone" not in text
    assert "20 golden requests: 3 answers differ, by 0.01 on average and 0.05 at most." in text
    failed = replace(DIFF, golden=Golden(requests=20, failed="KeyError: 'origin'"))
    assert "20 golden requests: KeyError: 'origin'" in model_diff(USE_CASE, failed)
    assert "They are the same version" in model_diff(USE_CASE, replace(DIFF, found=None))
