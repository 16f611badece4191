"""A change is compared with the champion on days that neither has seen, and noise is not taken for a change."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from tests.bike_tables import raw_tables
from tests.bikes import USE_CASE

from flight_delays.core.errors import UserError
from flight_delays.core.metrics import Floats
from flight_delays.core.settings import Try
from flight_delays.core.splits import expanding_folds
from flight_delays.core.training import REPEATS
from flight_delays.core.tries import Comparison, compare
from flight_delays.core.use_case import LABEL, UseCase
from flight_delays.tasks.try_out import HISTORY, Kept, labelled_now, run

AS_OF = datetime(2011, 4, 1, 4, tzinfo=UTC)
RAW = raw_tables(AS_OF)
SPREAD = USE_CASE.objective.scale  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return labelled_now(USE_CASE, RAW.__getitem__, AS_OF)


def forecasts(rows: pd.DataFrame, error: float, *, noise: float = 0.0, seed: int = 1) -> pd.DataFrame:
    """Forecasts off by `error`, in units of the spread; those of each repeat by some noise more."""
    rng = np.random.default_rng(seed)
    off = error * np.where(np.arange(len(rows)) % 2, 1, -1)
    made: dict[str, Floats] = {
        name: rows[LABEL].to_numpy() + SPREAD * (off + noise * rng.normal() * np.sign(off)) for name in REPEATS
    }
    return rows[["entity_id", "prediction_ts", "day", LABEL]].assign(**made)


def compared(rows: pd.DataFrame, one: pd.DataFrame, other: pd.DataFrame) -> Comparison:
    return compare(USE_CASE, rows, one, other)


def test_the_same_forecasts_show_no_difference_and_move_no_slice(rows: pd.DataFrame) -> None:
    found = compared(rows, forecasts(rows, 0.5), forecasts(rows, 0.5))
    assert (found.worse_by.low, found.worse_by.estimate, found.worse_by.high) == (0, 0, 0)
    assert (found.in_words, found.moved) == ("no difference shown", ())
    assert (found.rows, found.days) == (len(rows), rows["day"].nunique())


@pytest.mark.parametrize(("error", "words"), [(0.4, "better than the champion"), (0.6, "worse than the champion")])
def test_a_difference_of_every_day_is_shown(rows: pd.DataFrame, error: float, words: str) -> None:
    found = compared(rows, forecasts(rows, error), forecasts(rows, 0.5))
    assert found.in_words == words
    assert found.loss == pytest.approx(error**2)
    assert found.champion_loss == pytest.approx(0.25)
    assert found.worse_by.estimate == pytest.approx(error**2 - 0.25)
    assert len(found.moved) == len(found.slices) > 3


def test_what_repeats_differ_by_is_no_difference(rows: pd.DataFrame) -> None:
    """By days alone each of these would be one: all days are worse."""
    shown = [
        compared(rows, forecasts(rows, 0.5, noise=0.02, seed=seed), forecasts(rows, 0.5, noise=0.02, seed=100 + seed))
        for seed in range(40)
    ]
    assert all(found.worse_by.estimate != 0 for found in shown)
    # One of twenty, if the bounds hold; of forty, eight or more would come once in five thousand times.
    assert sum(found.in_words != "no difference shown" for found in shown) < 8


def test_rows_are_paired_by_what_they_are_about(rows: pd.DataFrame) -> None:
    shuffled = forecasts(rows, 0.5).sample(frac=1, random_state=1)
    found = compared(rows, forecasts(rows, 0.5), shuffled.iloc[:1000])
    assert (found.rows, found.worse_by.estimate) == (1000, 0)


def test_a_champion_of_other_days_is_refused(rows: pd.DataFrame) -> None:
    other = forecasts(rows, 0.5).assign(entity_id=lambda made: made["entity_id"] + "!")
    with pytest.raises(UserError, match=r"judged none of these rows.*train a new version"):
        compared(rows, forecasts(rows, 0.5), other)


def test_rows_made_now_are_those_whose_outcome_is_known(rows: pd.DataFrame) -> None:
    assert rows["prediction_ts"].is_monotonic_increasing
    assert rows[LABEL].notna().all()
    # The hours that end by then; six more were asked about, and are not over.
    assert rows["begins_at"].max() == pd.Timestamp("2011-04-01 03:00")
    assert (rows["label_known_at"] <= AS_OF.replace(tzinfo=None)).all()


def tried(use_case: UseCase, folder: Path, champion: Kept | None, **options: bool) -> str:
    said = io.StringIO()
    settings = Try(
        raw_tables="in memory",
        model_name="delay",
        holdout_days=14,
        as_of=AS_OF,
        folder=folder,
        note="night",
        own_parameters=options.get("own_parameters", False),
    )
    run(use_case, settings, read=RAW.__getitem__, champion=champion, console=Console(file=said, width=200))
    return said.getvalue()


def champion_from(judged: pd.DataFrame) -> Kept:
    first = judged["day"].min()
    folds = expanding_folds(first, pd.Timestamp("2011-03-17").date(), folds=3, days=56, gap=1)
    return Kept(
        name="bikes",
        number=7,
        parameters={"min_samples_leaf": 9, "max_features": 0.5},
        folds=folds,
        columns=frozenset({"hour", "weekday", "day_of_year", "holiday", "workingday", *USE_CASE.looked_up}),
        judged=judged,
    )


class _AtNight:
    """Preparation with a feature more."""

    def __getattr__(self, name: str) -> object:
        return getattr(USE_CASE.prepare, name)

    def prepare(self, columns: dict[str, Floats], learnt: dict[str, object]) -> dict[str, Floats]:
        known = USE_CASE.prepare.prepare(columns, learnt)
        return {**known, "is_night": np.asarray(known["hour"] < 6, dtype="float64")}


def test_a_try_shows_what_is_new_and_is_kept_in_the_history(rows: pd.DataFrame, tmp_path: Path) -> None:
    changed = replace(USE_CASE, prepare=_AtNight())  # type: ignore[arg-type]
    champion = champion_from(forecasts(rows, 3.0))
    said = tried(changed, tmp_path, champion)
    assert "with min_samples_leaf 9, max_features 0.5" in said
    assert "Against bikes version 7: better than the champion" in said
    assert "│ is_night " in said
    assert {file.name for file in tmp_path.iterdir()} == {HISTORY, "importance.png", "slices.png"}
    said = tried(changed, tmp_path, champion, own_parameters=True)
    assert "with min_samples_leaf 3, max_features 0.5" in said
    history = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert [(one["note"], one["champion"], one["new"]) for one in history] == [("night", "version 7", "is_night")] * 2


def test_without_a_champion_a_try_has_scores_alone(tmp_path: Path) -> None:
    said = tried(USE_CASE, tmp_path, None)
    assert "Against" not in said
    (entry,) = (json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines())
    assert (entry["champion"], entry["difference"]) == ("none", "")
    assert 0 < entry["loss"] < 1
