"""How the model is found and fitted, what is kept of it, and how a model made before is recognised."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from threadpoolctl import threadpool_limits

from flight_delays.core.errors import UserError
from flight_delays.core.intervals import day_intervals
from flight_delays.core.metrics import metrics
from flight_delays.platform.registry import Registry, Training
from flight_delays.tasks.dataset import Split
from flight_delays.tasks.record import record
from flight_delays.tasks.train import _fingerprint, searched
from flight_delays.use_case import model
from flight_delays.use_case.card import Scored, model_card
from flight_delays.use_case.training import PARAMETERS, Fitted, Trial, behind, boost, calibration, fit

FIRST = date(2013, 1, 1)
UNTIL = date(2013, 2, 20)
TEST_FROM = date(2013, 2, 11)


def day(number: int) -> date:
    return FIRST + timedelta(days=number - 1)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """On so few rows threads wait for one another."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def many(flights: pd.DataFrame) -> pd.DataFrame:
    """Enough for the smallest leaf allowed, and more than one."""
    unknown = dict.fromkeys(set(model.LOOKED_UP) - set(flights), np.nan)
    return pd.concat([flights] * 5, ignore_index=True).sort_values("flight_date", ignore_index=True).assign(**unknown)


@pytest.fixture(scope="module")
def split(many: pd.DataFrame) -> Split:
    earlier = many["flight_date"] < TEST_FROM
    return Split(training=many[earlier], test=many[~earlier], trained_until=TEST_FROM)


@pytest.fixture(scope="module")
def fitted(split: Split) -> Fitted:
    return fit(split.training, until=TEST_FROM, trials=3)


def kept(fitted: Fitted, split: Split, folder: Path) -> Training:
    return record(
        fitted,
        split=split,
        versions={"spark_catalog.shared.flight_features": 3},
        settings={"as_of": "2013-02-20T18:00:00Z", "holdout_days": 9},
        model_name="delay",
        fingerprint="a fingerprint",
        git_commit="c0ffee",
        folder=folder,
    )[0]


@pytest.fixture(scope="module")
def made(fitted: Fitted, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return kept(fitted, split, tmp_path_factory.mktemp("files"))


def test_the_same_rows_give_the_same_model_to_the_letter(split: Split, fitted: Fitted) -> None:
    again = fit(split.training.copy(), until=TEST_FROM, trials=3)
    assert again.digest() == fitted.digest()
    assert replace(again, booster=None) == replace(fitted, booster=None)


def test_another_booster_other_levels_or_another_calibration_are_another_model(fitted: Fitted, split: Split) -> None:
    prepared = model.prepare(split.training, fitted.levels)
    shorter = boost(prepared, split.training["is_late"], fitted.parameters, fitted.rounds - 1)
    others = [
        replace(fitted, booster=shorter),
        replace(fitted, levels={**fitted.levels, "carrier": ["AA"]}),
        replace(fitted, calibration={**fitted.calibration, "slope": 0.123}),
    ]
    assert len({other.digest() for other in (fitted, *others)}) == 4


def test_the_best_trial_gives_the_parameters_and_the_median_of_its_rounds(fitted: Fitted, split: Split) -> None:
    rows = split.training
    assert [trial.number for trial in fitted.trials] == [0, 1, 2]
    assert fitted.best.loss == min(trial.loss for trial in fitted.trials)
    assert fitted.trials[0].parameters.items() <= PARAMETERS.items()
    assert fitted.trials[1].parameters != fitted.trials[0].parameters
    assert fitted.parameters == {**PARAMETERS, **fitted.best.parameters}
    assert fitted.rounds == sorted(fitted.best.rounds)[1] > 1
    again = boost(model.prepare(rows, fitted.levels), rows["is_late"], fitted.parameters, fitted.rounds)
    assert again.model_to_string() == fitted.booster.model_to_string()


def test_a_longer_search_begins_with_the_trials_of_a_shorter_one(fitted: Fitted, split: Split) -> None:
    assert fit(split.training, until=TEST_FROM, trials=1).trials == fitted.trials[:1]


def test_the_model_learnt_from_visibility(fitted: Fitted) -> None:
    gains = dict(zip(fitted.booster.feature_name(), fitted.booster.feature_importance("gain"), strict=True))
    assert max(gains, key=gains.get) == "weather_visib"


def test_the_days_that_judge_a_fold_have_no_part_in_what_it_learns(split: Split, fitted: Fitted) -> None:
    """With the last window's labels turned round, the earlier folds lose what they lost before."""
    last = split.training["flight_date"] >= fitted.folds[-1].first
    turned = split.training.assign(is_late=split.training["is_late"].where(~last, 1 - split.training["is_late"]))
    (one,), (two,) = (fit(rows, until=TEST_FROM, trials=1).trials for rows in (split.training, turned))
    assert one.losses[:2] == two.losses[:2]
    assert two.losses[2] > one.losses[2] + 0.2


@pytest.mark.parametrize(("days", "enough"), [(1, False), (28, False), (29, True), (30, True)])
def test_fewer_days_than_four_weeks_and_the_gap_are_too_few(flights: pd.DataFrame, days: int, enough: bool) -> None:
    rows = flights[flights["flight_date"] <= day(days)]
    if enough:
        assert {(fold.end - fold.first).days for fold in fit(rows, until=day(days + 1), trials=1).folds} == {7}
        return
    with pytest.raises(UserError, match=r"too (little|few) .* lower holdout_days or move as_of"):
        fit(rows, until=day(days + 1), trials=1)


@pytest.mark.parametrize("side", ["before", "after"])
def test_only_punctual_flights_on_either_side_of_a_fold_are_too_little(flights: pd.DataFrame, side: str) -> None:
    judged = (flights["flight_date"] >= day(27)) & (flights["flight_date"] < day(39))  # the second of three
    punctual = judged if side == "after" else flights["flight_date"] < day(14)
    with pytest.raises(UserError, match=f"too little to learn from: {len(flights)} .* both late and punctual"):
        fit(flights.assign(is_late=flights["is_late"].mask(punctual, 0)), until=UNTIL, trials=1)


def complete(*losses: float) -> Trial:
    return Trial(number=0, parameters={}, losses=losses, rounds=(1,) * len(losses), state="complete")


@pytest.mark.parametrize(
    ("losses", "others", "is_behind"),
    [
        ((0.9,), [], False),
        ((0.9,), [(0.1, 0.5), (0.2, 0.5)], False),  # two are too few to fall behind of
        ((0.21,), [(0.1, 0.5), (0.2, 0.5), (0.3, 0.5)], True),
        ((0.2,), [(0.1, 0.5), (0.2, 0.5), (0.3, 0.5)], False),  # as good as the median
        ((0.19,), [(0.1, 0.5), (0.2, 0.5), (0.3, 0.5)], False),
        ((0.19, 0.5), [(0.1, 0.5), (0.2, 0.5), (0.3, 0.5)], False),
        ((0.19, 0.52), [(0.1, 0.5), (0.2, 0.5), (0.3, 0.5)], True),  # good in a fold where all are good
    ],
)
def test_a_trial_falls_behind_above_the_median_of_three_by_then(
    losses: tuple[float, ...], others: list[tuple[float, ...]], is_behind: bool
) -> None:
    assert behind(losses, [complete(*other) for other in others]) is is_behind


@pytest.mark.parametrize(
    ("truth", "found"),
    [
        ([(0.5, 0.3)] * 3, (0.5, 0.3)),
        ([(2.0, -1.0)] * 3, (2.0, -1.0)),
        ([(1.0, 0.2), (1.0, 0.3), (1.0, 0.4)], (1.0, 0.3)),  # each says much the same of the others
        ([(1.0, -0.3), (1.0, 0.0), (1.0, 0.3)], (1.0, 0.0)),  # none says anything of the others
        ([(1.0, 0.0), (1.0, 0.0), (1.0, 0.6)], (1.0, 0.0)),  # one season's own
    ],
)
def test_calibration_finds_how_far_forecasts_of_all_folds_are_off(
    truth: list[tuple[float, float]], found: tuple[float, float]
) -> None:
    rng = np.random.default_rng(3)
    forecasts = [rng.uniform(0.02, 0.98, 100_000) for _ in truth]
    labels = [
        (rng.uniform(size=len(forecast)) < model.calibrated(forecast, *off)).astype(float)
        for forecast, off in zip(forecasts, truth, strict=True)
    ]
    slope, intercept = found
    assert calibration(labels, forecasts) == pytest.approx({"slope": slope, "intercept": intercept}, abs=0.03)
    assert (calibration(labels, forecasts) == {"slope": 1.0, "intercept": 0.0}) is (found == (1.0, 0.0))


def test_a_model_is_made_again_from_what_its_run_recorded(
    registry: Registry, request: pytest.FixtureRequest, made: Training, split: Split
) -> None:
    registry.client.create_registered_model(request.node.name)
    number = registry.register("experiment", request.node.name, made)
    run = registry.client.get_run(registry.version(request.node.name, number).run_id).data
    levels, rounds = model.levels(split.training), int(run.params["rounds"])
    parameters = {name: run.params[name] for name in PARAMETERS}
    again = Fitted(
        booster=boost(model.prepare(split.training, levels), split.training["is_late"], parameters, rounds),
        levels=levels,
        rounds=rounds,
        parameters=parameters,
        calibration={name: float(run.params[f"calibration_{name}"]) for name in ("slope", "intercept")},
        folds=(),
        trials=(),
    )
    assert again.digest() == run.tags["model_digest"]


def test_the_record_says_how_the_model_came_about(made: Training, fitted: Fitted) -> None:
    assert {"as_of": "2013-02-20T18:00:00Z", "holdout_days": 9, "trials": 3, "folds": 3}.items() <= (
        made.parameters.items()
    )
    assert {"fold_days": 10, "gap_days": 1, "rounds": fitted.rounds, "training_rows": 4_100}.items() <= (
        made.parameters.items()
    )
    assert made.tags["mlflow.source.git.commit"] == "c0ffee"
    assert made.tags["lightgbm"] in " ".join(made.requirements)
    assert [nested.tags["state"] for nested in made.nested] == [trial.state for trial in fitted.trials]
    assert [nested.metrics["log_loss"] for nested in made.nested] == [trial.losses for trial in fitted.trials]
    assert made.metrics["test_auc_low"] < made.metrics["test_auc"] < made.metrics["test_auc_high"]


def test_the_holdout_has_no_part_in_the_model(made: Training, split: Split, tmp_path: Path) -> None:
    turned = Split(
        training=split.training,
        test=split.test.assign(is_late=1 - split.test["is_late"]),
        trained_until=split.trained_until,
    )
    other = kept(searched(turned, 3, Console(file=io.StringIO())), turned, tmp_path)
    assert other.tags["model_digest"] == made.tags["model_digest"]
    assert other.metrics["test_auc"] < 0.5 < made.metrics["test_auc"]


def test_golden_requests_ask_for_every_carrier_for_nothing_looked_up_and_for_the_unseen(
    made: Training, fitted: Fitted
) -> None:
    golden = json.loads(made.artifacts["golden"].read_text())
    assert golden["carrier"] == ["AA", "UA", "AA", "UA", "unseen"]
    assert golden["flight"] == [1] * 5  # a null is an answer: no store is asked for these
    assert golden["sched_dep_ts"][0] == "2013-01-01T12:00:00"
    assert [value is None for value in golden["weather_visib"]] == [False, False, True, True, False]
    requests = pd.DataFrame(golden).astype({"sched_dep_ts": "datetime64[us]"})
    assert fitted.forecast(requests).tolist() == pytest.approx(golden["probability"], abs=1e-12)


def test_the_model_card_says_what_by_what_and_how_well(made: Training, fitted: Fitted) -> None:
    card = made.texts["model_card.md"]
    told = [
        "# Model card: delay",
        "4,100 flights of 2013-01-01 to 2013-02-10",
        "| holdout | 900 flights of 2013-02-11 to 2013-02-19 |",
        "| spark_catalog.shared.flight_features | Delta version 3 |",
        "| 3 | 2013-01-31 | 2013-02-01 | 2013-02-11 |",
        f"| {fitted.best.number} | complete | {fitted.best.loss:.5f} |",
        f"| auc | {made.metrics['test_auc']:.4f} | {made.metrics['test_auc_low']:.4f} to ",
        "| carrier UA | ",
        "| time of day morning | ",
        "![calibration.png](plots/calibration.png)",
        "Aircraft are swapped",
    ]
    assert [line for line in told if line not in card] == []
    assert "nan" not in card


@pytest.mark.parametrize(
    ("rows", "late", "told"),
    [
        (199, 40, "| carrier HA | 199 | not measured |"),
        (200, 40, "| carrier HA | 200 | 20.0% | 0.6931 | "),
        (200, 0, "| carrier HA | 200 | 0.0% | 0.6931 | "),
    ],
)
def test_a_slice_of_too_few_flights_is_listed_as_not_measured(fitted: Fitted, rows: int, late: int, told: str) -> None:
    labels, days = np.repeat([1.0, 0.0], [late, rows - late]), np.arange(rows) % 10
    scored = Scored(metrics=metrics(labels, np.full(rows, 0.5)), ranges=day_intervals(labels, np.full(rows, 0.5), days))
    card = model_card(
        name="delay", fitted=fitted, data={}, scored=scored, slices={("carrier", "HA"): scored}, pictures=()
    )
    assert told in card
    assert ("| - | - |" in card) is (late == 0)  # one class has no area under the curve


@pytest.mark.parametrize("terminal", [True, False])
def test_a_search_shows_a_line_per_trial_and_on_a_terminal_a_bar(split: Split, terminal: bool) -> None:
    output = io.StringIO()
    searched(split, 2, Console(file=output, force_terminal=terminal, color_system=None, width=100))
    printed = output.getvalue()
    assert re.findall(r"Trial \d of 2: log loss 0\.\d{5}, complete", printed) == re.findall("Trial.*", printed)
    assert printed.count("Trial") == 2
    assert ("Searching" in printed, "\x1b[" in printed) == (terminal, terminal)


def test_a_fingerprint_tells_other_rows_another_split_and_a_longer_search_apart(flights: pd.DataFrame) -> None:
    until = date(2013, 2, 1)
    same = _fingerprint(flights, until, 3)
    assert _fingerprint(flights.copy(), until, 3) == same
    assert _fingerprint(flights, date(2013, 2, 2), 3) != same
    assert _fingerprint(flights, until, 4) != same
    assert _fingerprint(flights.iloc[1:], until, 3) != same
    assert _fingerprint(flights.assign(is_late=1 - flights["is_late"]), until, 3) != same
