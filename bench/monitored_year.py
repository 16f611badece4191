"""The monitor on a year that happened: `python -m bench.monitored_year` writes docs/monitored-year.md and its picture.

From what `python3 dev.py demo` left: when new versions are trained and what that is worth, how near estimates come to
what turned out, and faults that are put into real days.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise, product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.flights import ROOT, labelled
from bench.gate import defaults
from flight_delays.core.data_checks import check_columns, check_rows
from flight_delays.core.decay import DayLoss, coverage, decay
from flight_delays.core.drift import drift
from flight_delays.core.estimation import CALIBRATED_ON_DAYS, LossByForecast, estimates
from flight_delays.core.feature_set import DAY
from flight_delays.core.markdown import table
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import corrected
from flight_delays.core.performance import FORECAST, FORECAST_AT, OUTCOME_KNOWN_AT, in_order
from flight_delays.core.profiles import Bins, Profile, bins_of_all, profile_of
from flight_delays.core.retraining import WEEK, Choice, decide
from flight_delays.core.settings import RetrainPolicy, Watch
from flight_delays.core.signals import Level, Signal
from flight_delays.core.training import REPEATS, Fitted, columns_of, fit
from flight_delays.core.use_case import LABEL, LABEL_KNOWN_AT
from flight_delays.use_case import USE_CASE

BEGIN, TUNED_UNTIL, END = date(2013, 4, 1), date(2013, 9, 1), date(2014, 1, 1)
FAULT, WATCHED_DAYS = date(2013, 10, 7), 35
DECAYS, ALARMS = (0.005, 0.01, 0.02, 0.04), (2, 3)
PRICE = 0.0005  # of log loss, over all days, that a training has to be worth
OBJECTIVE = USE_CASE.objective

PAGE = """\
# A year with the monitor

Made by `python -m bench.monitored_year` on the real flights of 2013, with the code that decides (`core/drift.py`,
`core/decay.py`, `core/retraining.py`, `core/estimation.py`) and the policy of `databricks.yml`. A first version learns
from January to March; then the days come one by one.

![What each rule gains over never training; estimated and realised loss by week](monitored-year.png)

## When a new version is trained

Each rule decides at the end of each week. A new version learns from all days before, by the use case's own parameters,
and serves from the next day on: the gate is not in these figures. "Not worth it": trainings whose version was no better
over the next 28 days than the one before.

{retraining}

A new version after some weeks is worth most; which rule asks for it matters less. Drift asks for few, and for none in
vain, but later.

What `max_decay` and `retrain_alarms` are worth without a schedule, on April to August, by the loss plus {price:g} for
each training of these months. So little hangs on them that they stay where false alarms are rare:

{tuning}

## Estimated and realised

The first version's forecasts from April to December, each day's loss estimated from the {days} days before:

{estimated}

## Faults

A version that learnt until {trained}; from {fault} on, for {watched} days, something is wrong. "Other alarms" are those
of the same time that name something else, "anyway" those without any fault.

{faults}
"""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A version: what it learnt from, and what its folds let expect."""

    until: date
    fitted: Fitted

    @cached_property
    def folds(self) -> LossByForecast:
        """The forecasts of the folds, corrected, and how they turned out."""
        judged = self.fitted.judged
        forecasts = corrected(OBJECTIVE, judged[REPEATS[0]].to_numpy(dtype=np.float64), **self.fitted.correction)
        labels = judged[LABEL].to_numpy(dtype=np.float64)
        return LossByForecast(objective=OBJECTIVE, labels=labels, forecasts=forecasts)


@dataclass
class Year:
    """All rows; versions and their losses are made when they are asked for."""

    rows: pd.DataFrame
    versions: dict[date, Served] = field(default_factory=dict)
    losses: dict[date, dict[date, DayLoss]] = field(default_factory=dict)
    drifted: dict[tuple[date, date], list[Signal]] = field(default_factory=dict)

    def version(self, until: date) -> Served:
        """That which learnt from the days before."""
        if until not in self.versions:
            earlier = self.rows[self.rows[DAY] < until]
            self.versions[until] = Served(until=until, fitted=fit(USE_CASE, earlier, until=until, trials=1))
            print(f"trained until {until}")
        return self.versions[until]

    def days_of(self, until: date) -> dict[date, DayLoss]:
        """Its losses on the days after."""
        if until not in self.losses:
            version = self.version(until)
            later = self.rows[(self.rows[DAY] >= until) & (self.rows[DAY] < END)]
            self.losses[until] = day_losses(version, later, version.fitted.forecast(later))
        return self.losses[until]

    def drift_of(self, until: date, day: date, watch: Watch) -> list[Signal]:
        """Of the week that ends with a day, in the bins of a version's training rows."""
        if (until, day) not in self.drifted:
            bins = bins_of_all(columns_of(USE_CASE, self.rows[self.rows[DAY] < until]))
            first = day - timedelta(days=watch.watch_reference_days + WEEK)
            some = self.rows[(self.rows[DAY] > first) & (self.rows[DAY] <= day)]
            self.drifted[until, day] = drift(bins, profiles(bins, some), day, WEEK, watch)
        return self.drifted[until, day]


def day_losses(version: Served, rows: pd.DataFrame, forecasts: Floats, *, known: bool = True) -> dict[date, DayLoss]:
    """By day; its labels are all `known`, or none."""
    labels = rows[LABEL].to_numpy(dtype=np.float64)
    frame = pd.DataFrame(
        {DAY: rows[DAY], "loss": OBJECTIVE.loss(labels, forecasts), "expected": version.folds.of(forecasts)}
    )
    return {
        day: DayLoss(
            rows=len(of_day),
            labelled=len(of_day) if known else 0,
            realised=float(of_day["loss"].mean()) if known else None,
            estimated=None,
            expected=float(of_day["expected"].mean()),
        )
        for day, of_day in by_day(frame)
    }


def by_day(rows: pd.DataFrame) -> Iterator[tuple[date, pd.DataFrame]]:
    """The rows of each day."""
    yield from rows.groupby(DAY)  # type: ignore[misc]


def profiles(bins: Iterable[Bins], rows: pd.DataFrame) -> dict[str, dict[date, Profile]]:
    """By column and day."""
    found: dict[str, dict[date, Profile]] = {}
    for day, of_day in by_day(rows):
        for one in profile_of(day, [*bins], columns_of(USE_CASE, of_day)):
            found.setdefault(one.column, {})[day] = one
    return found


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a rule did: the version of each day, and where new ones were trained."""

    served: Mapping[date, date]
    trained: tuple[date, ...]

    def loss(self, year: Year, first: date, end: date) -> float:
        """Mean over the rows of the days."""
        days = [year.days_of(until)[day] for day, until in self.served.items() if first <= day < end]
        return float(np.average([one.realised or 0.0 for one in days], weights=[one.rows for one in days]))


def run(rule: Callable[[date, date, list[date]], bool]) -> Run:
    """Days from April on; `rule` is told the day, the version and earlier trainings at the end of each week."""
    champion, trained, served = BEGIN, list[date](), dict[date, date]()
    for day in (BEGIN + timedelta(days=number) for number in range((END - BEGIN).days)):
        served[day] = champion
        if (day.toordinal() + 1) % WEEK == 0 and rule(day, champion, trained):
            trained.append(day)
            champion = day
    return Run(served=served, trained=tuple(trained))


def by_policy(year: Year, watch: Watch, policy: RetrainPolicy) -> Callable[[date, date, list[date]], bool]:
    """The rule of `core/retraining.py`."""

    def rule(day: date, champion: date, trained: list[date]) -> bool:
        weeks = [day - timedelta(days=WEEK * back) for back in range(policy.retrain_windows)]
        signals = [decay(year.days_of(champion), week, WEEK, watch) for week in weeks if week > champion]
        if policy.retrain_on_drift:
            signals += [one for week in weeks if week > champion for one in year.drift_of(champion, week, watch)]
        found = decide(signals, trained=champion, ordered=trained, day=day, policy=policy)
        return found.choice is Choice.RETRAIN

    return rule


def not_worth_it(year: Year, found: Run) -> int:
    """Trainings whose version was no better than the one before, over the next 28 days."""
    wasted = 0
    for old, new in pairwise([BEGIN, *found.trained]):
        days = [day for number in range(28) if (day := new + timedelta(days=number + 1)) < END]
        if days:
            gains = [(year.days_of(old)[day].realised or 0) - (year.days_of(new)[day].realised or 0) for day in days]
            wasted += float(np.mean(gains)) <= 0
    return wasted


def estimated(year: Year) -> pd.DataFrame:
    """By day: realised loss of the first version, as estimated, as expected, and the mean of the days before."""
    version = year.version(BEGIN)
    rows = year.rows[(year.rows[DAY] >= BEGIN) & (year.rows[DAY] < END)]
    return told(version, rows, version.fitted.forecast(rows))


def told(version: Served, rows: pd.DataFrame, forecasts: Floats) -> pd.DataFrame:
    """The same of any rows and their forecasts."""
    made = rows.copy()
    made[FORECAST], made[FORECAST_AT], made[OUTCOME_KNOWN_AT] = forecasts, rows["prediction_ts"], rows[LABEL_KNOWN_AT]
    made = in_order(made)
    days = sorted(made[DAY].unique())
    found = estimates(OBJECTIVE, made, days, folds=version.folds, reach=CALIBRATED_ON_DAYS, zone=USE_CASE.zone)
    losses = pd.Series(
        OBJECTIVE.loss(made[LABEL].to_numpy(dtype=np.float64), made[FORECAST].to_numpy(dtype=np.float64))
    )
    frame = pd.DataFrame(
        {
            "realised": losses.groupby(made[DAY]).mean(),
            "estimated": pd.Series({one.day: one.estimated_loss for one in found}, dtype="float64"),
            "expected": pd.Series({one.day: one.expected_loss for one in found}, dtype="float64"),
        }
    )
    return frame.assign(before=frame["realised"].rolling(28).mean().shift(1))


def turned(rows: pd.DataFrame, since: date, share: float) -> pd.DataFrame:
    """Outcomes of these days in a world where a share of those that were on time are late."""
    random = np.random.default_rng(1)
    late = (rows[DAY] >= since) & (random.random(len(rows)) < share)
    return rows.assign(**{LABEL: np.where(late, 1.0, rows[LABEL])})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done to the rows from some day on; `named` are subjects that an alarm should name."""

    name: str
    named: tuple[str, ...]
    rows: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows
    times: int = 1
    late: timedelta = timedelta()


def faults() -> Iterator[Fault]:
    """Those of the page."""
    weather = tuple(name for name in USE_CASE.looked_up if name.startswith("weather_"))
    yield Fault(name="none", named=())
    yield Fault(
        name="broken weather feed", named=weather, rows=lambda rows: rows.assign(**dict.fromkeys(weather, np.nan))
    )
    degrees = ("weather_temp", "weather_dewp")
    yield Fault(
        name="Fahrenheit to Celsius",
        named=degrees,
        rows=lambda rows: rows.assign(**{name: (rows[name] - 32) / 1.8 for name in degrees}),
    )
    yield Fault(
        name="a new carrier, 10 % of flights",
        named=("carrier",),
        rows=lambda rows: rows.assign(
            carrier=np.where(np.random.default_rng(0).random(len(rows)) < 0.1, "ZZ", rows["carrier"])
        ),
    )
    yield Fault(name="labels a week late", named=("labels",), late=timedelta(days=7))
    yield Fault(name="doubled rows", named=("rows",), times=2)
    yield Fault(
        name="a tenth of punctual flights late",
        named=("forecasts", "label"),
        rows=lambda rows: turned(rows, FAULT, 0.1),
    )


def noticed(year: Year, version: Served, watch: Watch) -> Iterator[tuple[object, ...]]:
    """Of each fault: days until noticed, by what, and other alarms."""
    first = FAULT - timedelta(days=watch.watch_reference_days + max(watch.windows))
    before = year.rows[(year.rows[DAY] >= first) & (year.rows[DAY] < FAULT)]
    after = year.rows[(year.rows[DAY] >= FAULT) & (year.rows[DAY] < FAULT + timedelta(days=WATCHED_DAYS))]
    training = year.rows[year.rows[DAY] < version.until]
    columns = {**columns_of(USE_CASE, training), FORECAST: version.folds.forecasts, LABEL: version.folds.labels}
    bins = bins_of_all(columns)
    anyway = 0
    for fault in faults():
        rows = pd.concat([before, fault.rows(after)], ignore_index=True)
        rows[FORECAST] = version.fitted.forecast(rows)
        alarms = alarms_of(bins, rows, version, watch, fault)
        ours = [one for one in alarms if one.subject in fault.named]
        if not fault.named:
            anyway = len(alarms)
        yield (
            fault.name,
            "" if not fault.named else (min(one.day for one in ours) - FAULT).days + 1 if ours else "not noticed",
            ", ".join(
                dict.fromkeys(f"{one.kind} of {one.subject}" for one in sorted(ours, key=lambda one: one.day)[:3])
            ),
            len(ours),
            len(alarms) - len(ours),
            anyway,
        )


def alarms_of(bins: tuple[Bins, ...], rows: pd.DataFrame, version: Served, watch: Watch, fault: Fault) -> list[Signal]:
    """All that the monitor would have found on the days after, each day looked at on the day after."""
    found = profiles(bins, rows)
    for name in (FORECAST, LABEL):
        (one,) = (one for one in bins if one.column == name)
        found[name] = {day: profile_of(day, [one], {name: of_day[name].to_numpy()})[0] for day, of_day in by_day(rows)}
    given = [one for one in bins if one.column not in (FORECAST, LABEL)]
    forecasts = rows[FORECAST].to_numpy(dtype=np.float64)
    losses = day_losses(version, rows, forecasts)
    if fault.late:
        none = day_losses(version, rows, forecasts, known=False)
        losses = {day: none[day] if day >= FAULT else one for day, one in losses.items()}
    counts = {day: len(of_day) for day, of_day in by_day(rows)}
    signals: list[Signal] = []
    for day in (FAULT + timedelta(days=number) for number in range(WATCHED_DAYS)):
        known = {at: count * (fault.times if at >= FAULT else 1) for at, count in counts.items() if at <= day}
        signals += check_rows(known, {at: counts[at] for at in known}, day, watch, last=day)
        signals += check_columns(given, found, day, watch)
        signals.append(coverage(losses, day, watch))
        for length in watch.windows:
            if (day.toordinal() + 1) % length == 0:
                signals += drift(bins, found, day, length, watch)
        if (day.toordinal() + 1) % WEEK == 0:
            signals.append(decay(losses, day, WEEK, watch))
    return [one for one in signals if one.level is Level.ALARM]


def error_of(frame: pd.DataFrame, name: str, days: int) -> float:
    """Mean absolute error of the means of so many days."""
    known = frame.dropna()
    means = known.groupby(np.arange(len(known)) // days)[[name, "realised"]].mean()
    return float((means[name] - means["realised"]).abs().mean())


def main() -> None:
    """Live through the year, and write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    begun, watch, policy = time.monotonic(), defaults(Watch), defaults(RetrainPolicy)
    year = Year(rows=labelled())
    never, monthly = (lambda *_: False), (lambda day, champion, _: (day - champion).days >= 28)
    on_drift = replace(policy, retrain_on_drift=True, retrain_after_days=0)
    runs = {
        "never": run(never),
        "every four weeks": run(monthly),
        "on drift alone": run(by_policy(year, replace(watch, max_decay=1.0), on_drift)),
        "on decay alone": run(by_policy(year, watch, replace(policy, retrain_after_days=0))),
        "the default": run(by_policy(year, watch, policy)),
    }
    rows = [
        (
            name,
            f"{found.loss(year, BEGIN, TUNED_UNTIL):.4f}",
            f"{found.loss(year, TUNED_UNTIL, END):.4f}",
            len(found.trained),
            not_worth_it(year, found),
            ", ".join(f"{day:%b %-d}" for day in found.trained),
        )
        for name, found in runs.items()
    ]
    tuning = []
    for max_decay, alarms in product(DECAYS, ALARMS):
        tried = replace(policy, retrain_alarms=alarms, retrain_after_days=0)
        found = run(by_policy(year, replace(watch, max_decay=max_decay), tried))
        loss = found.loss(year, BEGIN, TUNED_UNTIL)
        count = sum(day < TUNED_UNTIL for day in found.trained)
        tuning.append((max_decay, alarms, f"{loss:.4f}", count, f"{loss + PRICE * count:.4f}"))
    days = estimated(year)
    version = year.version(BEGIN)
    rest = year.rows[(year.rows[DAY] >= BEGIN) & (year.rows[DAY] < END)]
    blind = told(version, turned(rest, TUNED_UNTIL, 0.1), version.fitted.forecast(rest))
    at_once = blind[(blind.index >= TUNED_UNTIL) & (blind.index < TUNED_UNTIL + timedelta(days=7))].mean()
    learnt = year.version(date(2013, 9, 1))
    errors = {
        name: ", ".join(f"{error_of(days, name, length):.4f}" for length in (1, 7, 28))
        for name in ("estimated", "before")
    }
    agree = days.dropna()["estimated"].corr(days["realised"])
    lines = [
        f"- Mean absolute error of a day, a week, four weeks: {errors['estimated']}.",
        f"- The same of the mean of the 28 days before, taken as the estimate: {errors['before']}.",
        f"- By day the correlation of estimated and realised is {agree:.2f}.",
        f"- Where it fails: if from {TUNED_UNTIL} on a tenth of punctual flights were late for a reason no",
        f"  feature tells, the first week would lose {at_once['realised']:.4f}, and {at_once['estimated']:.4f} would "
        "be estimated.",
    ]
    page = PAGE.format(
        retraining=table(
            ("rule", "April to August", "September to December", "trainings", "not worth it", "when"), rows
        ),
        price=PRICE,
        tuning=table(("max_decay", "retrain_alarms", "loss", "trainings", "with their price"), tuning),
        days=CALIBRATED_ON_DAYS,
        estimated="\n".join(lines),
        trained=learnt.until,
        fault=FAULT,
        watched=WATCHED_DAYS,
        faults=table(
            ("fault", "noticed after days", "first by", "alarms on it", "other alarms", "anyway"),
            noticed(year, learnt, watch),
        ),
    )
    (ROOT / "docs" / "monitored-year.md").write_text(page, encoding="utf-8")
    pictured(year, runs, days).savefig(ROOT / "docs" / "monitored-year.png", dpi=110)
    print(f"{ROOT / 'docs' / 'monitored-year.md'}, in {(time.monotonic() - begun) / 60:.0f} minutes")


def pictured(year: Year, runs: Mapping[str, Run], days: pd.DataFrame) -> Figure:
    """How much each rule gains over never, by week; and what was estimated."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    never = runs["never"]
    for name, found in runs.items():
        if found is not never:
            gain = pd.Series(
                {
                    day: (year.days_of(BEGIN)[day].realised or 0) - (year.days_of(until)[day].realised or 0)
                    for day, until in found.served.items()
                }
            )
            left.plot(gain.index, gain.rolling(28, min_periods=7).mean(), label=name)
    left.axhline(0, color="black", linewidth=0.8)
    left.set(ylabel=f"{OBJECTIVE.loss_name} below never, 28 days")
    left.legend(frameon=False, fontsize=8)
    weeks = days.groupby(np.arange(len(days)) // 7).mean()
    starts = [days.index[number * 7] for number in range(len(weeks))]
    for name, style in (("realised", "-"), ("estimated", "--"), ("expected", ":")):
        right.plot(starts, weeks[name], style, label=name)
    right.set(ylabel=f"{OBJECTIVE.loss_name} by week, never trained anew")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=30)
    return figure


if __name__ == "__main__":
    main()
