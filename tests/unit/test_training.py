"""How the model is found and fitted, what is kept of it, and how a model made before is recognised."""

import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from rich.console import Console
from threadpoolctl import threadpool_limits

import flight_delays
from flight_delays.core.errors import UserError
from flight_delays.core.evaluation import Evaluation, Scored, evaluate
from flight_delays.core.golden import choose_golden_requests, golden_json
from flight_delays.core.objective import Regression, day_intervals
from flight_delays.core.splits import Split
from flight_delays.core.training import REPEATS, Fitted, Trial, behind, columns_of, fit, prepared, refit
from flight_delays.learners.lightgbm_trees import LightGBM, Trees
from flight_delays.platform.registry import Registry, Training, digest_of
from flight_delays.platform.shell import Shell
from flight_delays.tasks.record import artifacts, record
from flight_delays.tasks.train import _fingerprint, searched
from flight_delays.use_case import USE_CASE
from flight_delays.views.model_card import model_card

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
    return pd.concat([flights] * 5, ignore_index=True).sort_values("day", ignore_index=True)


@pytest.fixture(scope="module")
def split(many: pd.DataFrame) -> Split:
    earlier = many["day"] < TEST_FROM
    return Split(training=many[earlier], test=many[~earlier], trained_until=TEST_FROM)


@pytest.fixture(scope="module")
def fitted(split: Split) -> Fitted:
    return fit(USE_CASE, split.training, until=TEST_FROM, trials=3)


def kept(fitted: Fitted, split: Split, folder: Path) -> Training:
    return record(
        fitted,
        split=split,
        versions={"spark_catalog.shared.features": 3},
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
    again = fit(USE_CASE, split.training.copy(), until=TEST_FROM, trials=3)
    assert text(again) == text(fitted)
    pd.testing.assert_frame_equal(again.judged, fitted.judged, check_exact=True)
    assert replace(again, model=None, judged=None) == replace(fitted, model=None, judged=None)


def text(fitted: Fitted) -> str:
    """The trees, to the letter."""
    assert isinstance(fitted.model, Trees)
    return fitted.model.booster.model_to_string()


def trees(fitted: Fitted, rows: pd.DataFrame, rounds: int) -> Trees:
    """Fitted to the rows as the trees of `fitted` were."""
    use_case, ready = fitted.use_case, prepared(fitted.use_case, rows, fitted.learnt)
    labels = rows["label"].to_numpy()
    made = use_case.learner.fit(ready, labels, use_case.prepare.CATEGORIES, fitted.parameters, rounds)
    assert isinstance(made, Trees)
    return made


def digest(fitted: Fitted, rows: pd.DataFrame, folder: Path) -> str:
    folder.mkdir()
    return digest_of(artifacts(fitted, rows, folder).values())


def test_other_trees_other_levels_or_another_correction_are_another_model(
    fitted: Fitted, split: Split, made: Training, tmp_path: Path
) -> None:
    rows = split.training
    models = [
        fitted,
        replace(fitted, model=trees(fitted, rows, fitted.rounds - 1)),
        replace(fitted, learnt={**fitted.learnt, "carrier": ["AA"]}),
        replace(fitted, correction={**fitted.correction, "slope": 0.123}),
    ]
    digests = [digest(each, rows, tmp_path / str(number)) for number, each in enumerate(models)]
    assert len(set(digests)) == 4
    assert digests[0] == digest(fitted, rows, tmp_path / "again") == made.tags["model_digest"]


def test_the_best_trial_gives_the_parameters_and_the_median_of_its_rounds(fitted: Fitted, split: Split) -> None:
    rows = split.training
    assert [trial.number for trial in fitted.trials] == [0, 1, 2]
    assert fitted.best.loss == min(trial.loss for trial in fitted.trials)
    own = USE_CASE.learner.parameters
    assert fitted.trials[0].parameters.items() <= own.items()
    assert fitted.trials[0].parameters.keys() == USE_CASE.search_space.keys()
    assert fitted.trials[1].parameters != fitted.trials[0].parameters
    assert fitted.parameters == {**own, **fitted.best.parameters}
    assert fitted.rounds == sorted(fitted.best.rounds)[1] > 1
    assert trees(fitted, rows, fitted.rounds).booster.model_to_string() == text(fitted)


def test_a_longer_search_begins_with_the_trials_of_a_shorter_one(fitted: Fitted, split: Split) -> None:
    assert fit(USE_CASE, split.training, until=TEST_FROM, trials=1).trials == fitted.trials[:1]


def test_the_model_learnt_from_visibility(fitted: Fitted, split: Split) -> None:
    gains = fitted.model.importance()
    assert [*gains] == [*prepared(USE_CASE, split.training, fitted.learnt)]
    assert max(gains, key=gains.get) == "weather_visib"
    assert min(gains.values()) == gains["plane_seats"] == 0  # never there


def test_the_days_that_judge_a_fold_have_no_part_in_what_it_learns(split: Split, fitted: Fitted) -> None:
    """With the last window's labels turned round, the earlier folds lose what they lost before."""
    last = split.training["day"] >= fitted.folds[-1].first
    turned = split.training.assign(label=split.training["label"].where(~last, 1 - split.training["label"]))
    (one,), (two,) = (fit(USE_CASE, rows, until=TEST_FROM, trials=1).trials for rows in (split.training, turned))
    assert one.losses[:2] == two.losses[:2]
    assert two.losses[2] > one.losses[2] + 0.2


@pytest.mark.parametrize(("days", "enough"), [(1, False), (28, False), (29, True), (30, True)])
def test_fewer_days_than_four_weeks_and_the_gap_are_too_few(flights: pd.DataFrame, days: int, enough: bool) -> None:
    rows = flights[flights["day"] <= day(days)]
    if enough:
        assert {(fold.end - fold.first).days for fold in fit(USE_CASE, rows, until=day(days + 1), trials=1).folds} == {
            7
        }
        return
    with pytest.raises(UserError, match=r"too (little|few) .* lower holdout_days or move as_of"):
        fit(USE_CASE, rows, until=day(days + 1), trials=1)


@pytest.mark.parametrize("side", ["before", "after"])
def test_labels_that_do_not_differ_on_either_side_of_a_fold_are_too_little(flights: pd.DataFrame, side: str) -> None:
    judged = (flights["day"] >= day(27)) & (flights["day"] < day(39))  # the second of three
    punctual = judged if side == "after" else flights["day"] < day(14)
    with pytest.raises(UserError, match=f"too little to learn from: {len(flights)} .* labels that differ before and"):
        fit(USE_CASE, flights.assign(label=flights["label"].mask(punctual, 0)), until=UNTIL, trials=1)


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


@dataclass(frozen=True)
class Guess:
    """Forecasts one number."""

    number: float

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return np.full(len(matrix), self.number)

    def save(self, folder: Path) -> None:
        (folder / "number.txt").write_text(str(self.number))

    def importance(self) -> Mapping[str, float]:
        return {}


@dataclass(frozen=True)
class GuessedFold:
    judged: int
    number: int

    def fit(self, parameters: Mapping[str, float], repeat: int = 0) -> tuple[np.ndarray, int]:
        around = np.linspace(-0.01, 0.01, self.judged)
        return parameters["guess"] + repeat / 1_000 + around, 10 * self.number


@dataclass
class Guesser:
    """Learns nothing: forecasts lie around a parameter, and a thousandth higher for each repeat.

    The best number of rounds is 10, 20, 30 in the order of folds.
    """

    name, requirements, code = "guesser", (), Path(__file__)
    parameters: Mapping[str, float]
    folds: int = 0

    def fold(
        self,
        rows: pd.DataFrame,  # noqa: ARG002
        labels: np.ndarray,  # noqa: ARG002
        judged: pd.DataFrame,
        judged_labels: np.ndarray,  # noqa: ARG002
        categories: Sequence[str],  # noqa: ARG002
    ) -> GuessedFold:
        self.folds += 1
        return GuessedFold(len(judged), self.folds)

    def fit(
        self,
        rows: pd.DataFrame,  # noqa: ARG002
        labels: np.ndarray,  # noqa: ARG002
        categories: Sequence[str],  # noqa: ARG002
        parameters: Mapping[str, float],
        rounds: int,
    ) -> Guess:
        assert rounds == 20
        return Guess(parameters["guess"])


def test_whatever_the_learner_trials_that_fall_behind_are_pruned_and_the_best_one_is_taken(
    flights: pd.DataFrame,
) -> None:
    guesser = Guesser({"guess": 0.9, "other": 1.0})
    use_case = replace(USE_CASE, learner=guesser, search_space={"guess": FloatDistribution(0.05, 0.95)})
    seen: list[Trial] = []
    found = fit(use_case, flights, until=UNTIL, trials=20, on_trial=seen.append)
    assert tuple(seen) == found.trials
    assert found.trials[0].parameters == {"guess": 0.9}
    for number, trial in enumerate(found.trials):
        complete = [other for other in found.trials[:number] if other.state == "complete"]
        tried = [trial.losses[:folds] for folds in range(1, len(trial.losses) + 1)]
        fell_behind = [behind(losses, complete) for losses in tried if len(losses) < 3]
        assert not any(fell_behind[:-1])
        assert trial.state == ("pruned" if fell_behind[-1] else "complete")
        assert trial.rounds == (10, 20, 30)[: len(tried)]
    assert {trial.state for trial in found.trials} == {"complete", "pruned"}
    complete = [trial for trial in found.trials if trial.state == "complete"]
    assert found.best == min(complete, key=lambda trial: trial.loss) != found.trials[0]
    assert found.parameters == {"guess": found.best.parameters["guess"], "other": 1.0}
    assert (found.model, found.rounds) == (Guess(found.parameters["guess"]), 20)
    for repeat, name in enumerate(REPEATS, 1):
        assert found.judged[name].mean() == pytest.approx(found.parameters["guess"] + repeat / 1_000)


def test_what_is_forecast_of_the_folds_days_with_other_random_numbers_is_kept(fitted: Fitted, split: Split) -> None:
    judged = fitted.judged
    assert [*judged] == ["entity_id", "prediction_ts", "day", "label", *REPEATS]
    for fold, loss in zip(fitted.folds, fitted.best.losses, strict=True):
        of_fold = judged[(judged["day"] >= fold.first) & (judged["day"] < fold.end)]
        rows = split.training[(split.training["day"] >= fold.first) & (split.training["day"] < fold.end)]
        assert of_fold[["entity_id", "label"]].to_numpy().tolist() == rows[["entity_id", "label"]].to_numpy().tolist()
        lost = {USE_CASE.objective.loss(of_fold["label"], of_fold[repeat]).mean() for repeat in REPEATS}
        assert len(lost | {loss}) == 4
        assert [*lost] == pytest.approx([loss] * 3, abs=0.1)
    assert len(judged) == sum((fold.end - fold.first).days for fold in fitted.folds) * 100


def test_a_fit_with_the_same_folds_and_setting_is_the_same_without_a_search(fitted: Fitted, split: Split) -> None:
    again = refit(USE_CASE, split.training, fitted.folds, fitted.best.parameters)
    assert text(again) == text(fitted)
    assert [trial.losses for trial in again.trials] == [fitted.best.losses]
    pd.testing.assert_frame_equal(again.judged, fitted.judged, check_exact=True)


def test_a_model_is_made_again_from_what_its_run_recorded(
    registry: Registry, request: pytest.FixtureRequest, made: Training, split: Split, tmp_path: Path
) -> None:
    registry.client.create_registered_model(request.node.name)
    number = registry.register("experiment", request.node.name, made)
    run = registry.client.get_run(registry.version(request.node.name, number).run_id).data
    learner, learnt = USE_CASE.learner, USE_CASE.prepare.learn(columns_of(USE_CASE, split.training))
    ready, labels = prepared(USE_CASE, split.training, learnt), split.training["label"].to_numpy()
    parameters, rounds = {name: run.params[name] for name in learner.parameters}, int(run.params["rounds"])
    again = Fitted(
        use_case=USE_CASE,
        model=learner.fit(ready, labels, USE_CASE.prepare.CATEGORIES, parameters, rounds),
        learnt=learnt,
        rounds=rounds,
        parameters=parameters,
        correction={name: float(run.params[f"correction_{name}"]) for name in ("slope", "intercept")},
        folds=(),
        trials=(),
        judged=pd.DataFrame(),
    )
    assert digest(again, split.training, tmp_path / "again") == run.tags["model_digest"]


def test_the_record_says_how_the_model_came_about(made: Training, fitted: Fitted, split: Split) -> None:
    assert {"as_of": "2013-02-20T18:00:00Z", "holdout_days": 9, "trials": 3, "folds": 3}.items() <= (
        made.parameters.items()
    )
    assert {"fold_days": 10, "gap_days": 1, "rounds": fitted.rounds, "training_rows": 4_100}.items() <= (
        made.parameters.items()
    )
    assert made.tags["mlflow.source.git.commit"] == "c0ffee"
    assert made.tags["lightgbm"] in " ".join(made.requirements)
    assert made.trials == fitted.trials
    assert made.version_tags == {
        "trained_until": "2013-02-11",
        "baseline": repr(float(split.training["label"].mean())),
        "git_commit": "c0ffee",
    }
    assert [*made.figures] == ["calibration.png", "roc.png", "importance.png"]
    assert made.signature == USE_CASE.signature
    assert made.metrics["test_auc_low"] < made.metrics["test_auc"] < made.metrics["test_auc_high"]


def test_the_holdout_has_no_part_in_the_model(made: Training, split: Split, tmp_path: Path) -> None:
    turned = Split(
        training=split.training,
        test=split.test.assign(label=1 - split.test["label"]),
        trained_until=split.trained_until,
    )
    other = kept(searched(USE_CASE, turned, 3, Console(file=io.StringIO())), turned, tmp_path)
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


@pytest.mark.parametrize(("rows", "asked"), [(320, 16), (16, 16), (5, 5), (1, 1)])
def test_golden_requests_without_a_text_come_from_sixteen_parts_of_the_rows(
    many: pd.DataFrame, rows: int, asked: int
) -> None:
    spine = USE_CASE.spine
    texts = [field for field in spine.request if field.type == pa.string()]
    numbers = pa.schema([field for field in spine.request if field not in texts])
    use_case = replace(USE_CASE, spine=replace(spine, request=numbers, also=pa.schema([*spine.also, *texts])))
    # The last row of each part is the only one that has something looked up.
    there = np.arange(rows) % max(rows // 16, 1) == max(rows // 16, 1) - 1
    given = many.head(rows).assign(flight=np.arange(rows), weather_visib=np.where(there, 1.0, np.nan))
    requests = choose_golden_requests(use_case, given)
    assert tuple(requests) == use_case.inputs
    assert requests["flight"].tolist() == [*given["flight"][there], *given["flight"][there][:3]]
    assert requests["weather_visib"].notna().tolist() == [True] * asked + [False] * min(asked, 3)


def test_golden_requests_are_kept_with_times_as_text_and_nothing_as_null(many: pd.DataFrame) -> None:
    requests = many.head(2)[[*USE_CASE.inputs]].assign(sched_dep_ts=pd.to_datetime(["2013-01-01 12:30", None]))
    kept = json.loads(golden_json(USE_CASE, requests, np.array([0.25, 0.5])))
    assert [*kept] == [*USE_CASE.inputs, "probability"]
    assert kept["sched_dep_ts"] == ["2013-01-01T12:30:00", None]
    assert kept["plane_seats"] == [None, None]
    assert kept["probability"] == [0.25, 0.5]


def test_the_model_card_says_what_by_what_and_how_well(made: Training, fitted: Fitted, split: Split) -> None:
    card = made.texts["model_card.md"]
    told = [
        "# Model card: delay",
        "probability that a flight from New York",
        f"4,100 rows of 2013-01-01 to 2013-02-10, {split.training['label'].mean():.1%} of them late",
        f"On 900 rows of the holdout, {split.test['label'].mean():.1%} of them late",
        "| setting | state | mean log loss | log loss by fold | best rounds by fold |",
        "| holdout | 900 rows of 2013-02-11 to 2013-02-19 |",
        "| spark_catalog.shared.features | Delta version 3 |",
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
        (200, 40, "| carrier HA | 200 | 0.2000 | 0.6931 ("),
        (200, 0, "| carrier HA | 200 | 0.0000 | 0.6931 ("),
    ],
)
def test_a_slice_of_too_few_rows_is_listed_as_not_measured(fitted: Fitted, rows: int, late: int, told: str) -> None:
    labels, forecasts = np.repeat([1.0, 0.0], [late, rows - late]), np.full(rows, 0.5)
    objective = USE_CASE.objective
    scored = Scored(
        metrics=objective.metrics(labels, forecasts),
        ranges=day_intervals(objective, labels, forecasts, np.arange(rows) % 10),
    )
    found = Evaluation(labels=labels, forecasts=forecasts, scored=scored, slices={("carrier", "HA"): scored})
    card = model_card(name="delay", fitted=fitted, data={}, found=found, pictures=())
    assert told in card
    assert ("| auc | - | - |" in card) is (late == 0)  # one class has no area under the curve


def test_each_slice_is_measured_by_its_own_rows(fitted: Fitted, split: Split) -> None:
    forecasts = fitted.forecast(split.test)
    found = evaluate(USE_CASE, split.test, forecasts)
    labels = split.test["label"].to_numpy()
    there = (split.test["origin"] == "JFK").to_numpy()
    assert found.scored.metrics == USE_CASE.objective.metrics(labels, forecasts)
    assert found.slices["origin", "JFK"].metrics == USE_CASE.objective.metrics(labels[there], forecasts[there])
    assert [*found.slices] == [
        *(("carrier", name) for name in ("AA", "UA")),
        *(("origin", name) for name in ("EWR", "JFK", "LGA")),
        ("time of day", "morning"),
    ]
    assert found.slices["time of day", "morning"] == found.scored
    assert found.scored.rows == 900


@pytest.mark.parametrize("terminal", [True, False])
def test_a_search_shows_a_line_per_trial_and_on_a_terminal_a_bar(split: Split, terminal: bool) -> None:
    output = io.StringIO()
    searched(USE_CASE, split, 2, Console(file=output, force_terminal=terminal, color_system=None, width=100))
    printed = output.getvalue()
    assert re.findall(r"Trial \d of 2: log loss 0\.\d{5}, complete", printed) == re.findall("Trial.*", printed)
    assert printed.count("Trial") == 2
    assert ("Searching" in printed, "\x1b[" in printed) == (terminal, terminal)


def test_a_fingerprint_tells_other_rows_another_split_and_a_longer_search_apart(flights: pd.DataFrame) -> None:
    until = date(2013, 2, 1)
    same = _fingerprint(USE_CASE, flights, until, 3)
    assert _fingerprint(USE_CASE, flights.copy(), until, 3) == same
    assert _fingerprint(USE_CASE, flights, date(2013, 2, 2), 3) != same
    assert _fingerprint(USE_CASE, flights, until, 4) != same
    assert _fingerprint(USE_CASE, flights.iloc[1:], until, 3) != same
    assert _fingerprint(USE_CASE, flights.assign(label=1 - flights["label"]), until, 3) != same


PACKAGE = Path(flight_delays.__file__).parent


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("core/training.py", True),
        ("tasks/record.py", True),
        ("views/model_card.py", True),
        ("platform/shell.py", True),
        ("use_case/features.py", True),
        ("elsewhere/prepare.py", True),
        ("elsewhere/learner.py", True),
        ("serving/app.py", False),
    ],
)
def test_a_fingerprint_tells_other_code_apart_wherever_what_travels_lies(
    flights: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, matters: bool
) -> None:
    shutil.copytree(PACKAGE, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "elsewhere").mkdir()
    prepare = Path(shutil.copy(USE_CASE.prepare_file, tmp_path / "elsewhere"))
    code = Path(shutil.copy(USE_CASE.learner.code, tmp_path / "elsewhere/learner.py"))
    monkeypatch.setattr(flight_delays, "__file__", str(tmp_path / "__init__.py"))
    use_case = replace(
        USE_CASE,
        sql=tmp_path / "use_case/sql",
        prepare=SimpleNamespace(__file__=str(prepare)),
        learner=SimpleNamespace(code=code, requirements=()),
    )
    before = _fingerprint(use_case, flights, UNTIL, 3)
    with (tmp_path / file).open("a") as changed:
        changed.write("# changed")
    assert (_fingerprint(use_case, flights, UNTIL, 3) != before) is matters


MINUTES = replace(
    USE_CASE,
    objective=Regression(unit="minutes", scale=20.0),
    learner=LightGBM(
        parameters={"objective": "regression", "num_leaves": 7, "min_data_in_leaf": 20, "learning_rate": 0.1}
    ),
    search_space={"num_leaves": IntDistribution(4, 16)},
)
"""How late, where the noise alone has a squared error of a quarter."""


@pytest.fixture(scope="module")
def minutes(flights: pd.DataFrame) -> Split:
    """The lower the visibility, the later, from about 40 minutes to none; noise of 10 minutes."""
    noise = 10 * np.random.default_rng(9).normal(size=len(flights))
    rows = flights.assign(label=40 - 4 * flights["weather_visib"] + noise)
    earlier = rows["day"] < TEST_FROM
    return Split(training=rows[earlier], test=rows[~earlier], trained_until=TEST_FROM)


@pytest.fixture(scope="module")
def regression(minutes: Split) -> Fitted:
    return fit(MINUTES, minutes.training, until=TEST_FROM, trials=2)


@pytest.fixture(scope="module")
def made_regression(regression: Fitted, minutes: Split, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return kept(regression, minutes, tmp_path_factory.mktemp("files"))


def test_a_regression_is_found_and_fitted_by_the_same_search(regression: Fitted, minutes: Split) -> None:
    objective, labels = MINUTES.objective, minutes.test["label"].to_numpy()
    lost = objective.loss(labels, regression.forecast(minutes.test)).mean()
    baseline = objective.loss(labels, np.full_like(labels, minutes.training["label"].mean())).mean()
    assert 0.2 < lost < 0.35 < 0.5 < baseline
    assert 0.2 < regression.best.loss < 0.4
    assert max(regression.model.importance(), key=regression.model.importance().get) == "weather_visib"
    again = fit(MINUTES, minutes.training.copy(), until=TEST_FROM, trials=2)
    assert (text(again), again.correction, again.trials) == (text(regression), regression.correction, regression.trials)


def test_labels_of_one_value_are_nothing_to_learn_numbers_from(minutes: Split) -> None:
    with pytest.raises(UserError, match="labels that differ"):
        fit(MINUTES, minutes.training.assign(label=12.5), until=TEST_FROM, trials=1)


def test_of_a_regression_is_kept_what_suits_numbers(made_regression: Training, minutes: Split) -> None:
    assert [*made_regression.figures] == ["calibration.png", "errors.png", "importance.png"]
    metrics = made_regression.metrics
    for name in ("squared_error", "rmse", "mae", "r2"):
        assert metrics[f"test_{name}_low"] < metrics[f"test_{name}"] < metrics[f"test_{name}_high"]
    assert not [name for name in metrics if "log_loss" in name or "auc" in name]
    mean = float(minutes.training["label"].mean())
    assert made_regression.version_tags["baseline"] == repr(mean)
    assert [column.name for column in made_regression.signature.outputs] == ["prediction"]
    card = made_regression.texts["model_card.md"]
    told = [
        f"820 rows of 2013-01-01 to 2013-02-10, {mean:.4g} minutes on average",
        "| setting | state | mean squared error | squared error by fold | best rounds by fold |",
        f"| rmse | {metrics['test_rmse']:.4f} | {metrics['test_rmse_low']:.4f} to ",
        "![errors.png](plots/errors.png)",
    ]
    assert [line for line in told if line not in card] == []
    assert "log loss" not in card


def test_a_regression_that_travels_answers_as_it_did_where_it_was_fitted(
    made_regression: Training, regression: Fitted, minutes: Split
) -> None:
    shell = Shell()
    shell.load_context(SimpleNamespace(artifacts={name: str(file) for name, file in made_regression.artifacts.items()}))
    answers = shell.predict(None, minutes.test)
    assert [*answers] == ["prediction"]
    assert answers["prediction"].to_numpy() == pytest.approx(regression.forecast(minutes.test), rel=1e-12)
    golden = json.loads(made_regression.artifacts["golden"].read_text())
    requests = pd.DataFrame(golden).astype({"sched_dep_ts": "datetime64[us]"})
    assert shell.predict(None, requests)["prediction"].tolist() == pytest.approx(golden["prediction"], rel=1e-12)


def test_a_search_names_the_loss_of_its_objective(minutes: Split) -> None:
    output = io.StringIO()
    searched(MINUTES, minutes, 1, Console(file=output, width=100))
    assert re.fullmatch(r"Trial 1 of 1: squared error 0\.\d{5}, complete\n", output.getvalue())
