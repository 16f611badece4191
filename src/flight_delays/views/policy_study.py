"""What a study of the policy found, for people: sentences, tables, a picture."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flight_delays.core.drawn import BLOCK
from flight_delays.core.markdown import percent, table
from flight_delays.core.objective import Regression
from flight_delays.core.policy_study import (
    LIMIT_OF,
    MAX_PASSED,
    MAX_PROMOTED,
    MAX_ROLLED_BACK,
    MIN_PASSED,
    MIN_PROMOTED,
    WORSE,
    Passed,
    RolloutRates,
    Study,
    recommended,
)
from flight_delays.core.settings import PolicyStudy, RolloutPolicy
from flight_delays.core.use_case import UseCase

GATE = ("loss_margin", "holdout_days", "equal: passes", "worse: passes", "better: passes", "")
ROLLOUT = (
    "max_loss_increase",
    "quality_limit_days",
    "equal: promoted",
    "rolled back",
    "worse: promoted",
    "rolled back",
    "better: promoted",
    "days until promoted: equal",
    "better",
    "days until rolled back",
    "",
)


def conclusions(use_case: UseCase, study: Study, settings: PolicyStudy) -> Iterator[str]:
    """A sentence or two on the gate, on rollouts, and on where a rollout should wait."""
    loss, worse = use_case.objective.loss_name, f"{WORSE:g} margins"
    gate, rollout = settings.gate, settings.rollout
    passed, equal = (fmean(getattr(one, kind) for one in study.now) for kind in ("worse", "equal"))
    yield (
        f"The gate as it is (`loss_margin` {gate.loss_margin:g}, {study.now[0].days} days): of models whose {loss} is "
        f"{worse} above the champion's it lets {percent(passed)} pass, of equal ones {percent(equal)}."
    )
    for check, limit in LIMIT_OF.items():
        stopped = fmean(one.stopped.get(check, 0.0) for one in study.now)
        before, after = getattr(gate, limit), getattr(study.limits, limit)
        if after > before:
            yield (
                f"Check `{check}` keeps {percent(stopped)} of equal ones from passing, whatever their loss. With "
                f"`{limit}` {after:g} instead of {before:g} 9 of 10 keep it; what follows is with that."
            )
    best = recommended(study.gate)
    yield (
        f"Recommended for the gate: `loss_margin` {best.margin:g} and `holdout_days` {best.days}, which let "
        f"{percent(best.worse)} of those {worse} worse pass and {percent(best.equal)} of equal ones."
        if best
        else f"No margin tried lets at most {percent(MAX_PASSED)} of models {worse} worse pass, and at least "
        f"{percent(MIN_PASSED)} of equal ones: days differ too much. Raise `loss_margin` if a larger loss is bearable, "
        "or accept that most equal models are INCONCLUSIVE."
    )
    limit_now = (rollout.max_loss_increase, rollout.quality_limit_days)
    current = next((one for one in study.rollouts if (one.margin, one.days) == limit_now), None)
    if current:
        yield (
            f"Rollouts by `max_loss_increase` {current.margin:g} and `quality_limit_days` {current.days}, as it is"
            f"{_calibrated(study, rollout, current.margin)}: an equal version is rolled back in "
            f"{percent(current.equal_rolled_back)} and promoted in {percent(current.equal_promoted)}"
            f"{_half(current.days_equal)}; one {worse} worse is promoted in {percent(current.worse_promoted)}."
        )
    rolled = recommended(study.rollouts)
    yield (
        f"Recommended for rollouts: `max_loss_increase` {rolled.margin:g} and `quality_limit_days` {rolled.days}"
        f"{_calibrated(study, rollout, rolled.margin)}: {percent(rolled.equal_rolled_back)}, "
        f"{percent(rolled.equal_promoted)}{_half(rolled.days_equal)}, and {percent(rolled.worse_promoted)}."
        if rolled
        else f"No margin tried rolls back at most {percent(MAX_ROLLED_BACK)} of equal versions, promotes at least "
        f"{percent(MIN_PROMOTED)} of them and at most {percent(MAX_PROMOTED)} of those {worse} worse. Raise "
        "`max_loss_increase` if a larger loss is bearable, or let a person decide (`when_undecided` ask)."
    )
    shown = rolled or current
    if shown:
        yield _exposed(rollout, shown)
    tests = study.ab_test
    yield (
        f"A/B tests as they are (`ab_test_share` {rollout.ab_test_share}, `ab_test_days` {rollout.ab_test_days}): "
        f"{percent(tests.found)} show a version that is {tests.worse:g} worse; {percent(tests.wrong)} call two that "
        "are the same different."
    )


def _calibrated(study: Study, policy: RolloutPolicy, margin: float) -> str:
    """What has to go with a margin, where the policy has less."""
    needed = study.calibration[margin]
    return f", with `max_calibration_increase` {needed:g}" if needed > policy.max_calibration_increase else ""


def _half(days: float) -> str:
    return "" if math.isnan(days) else f", half of those within {days:.0f} days"


def _exposed(policy: RolloutPolicy, rates: RolloutRates) -> str:
    first = next(stage for stage in policy.rollout_stages if stage)
    needed = policy.quality_needed_for
    now = f"with `quality_needed_for` {needed} {rates.exposed:,.0f} of {rates.rows:,.0f} rows"
    if first == 100 or not needed:
        return f"A worse version answers, until its rollout ends, {now}."
    then = next(stage for stage in policy.rollout_stages if stage > first)
    return (
        f"A worse version answers, until its rollout ends, {now}; with {then}, which waits for quality at {first} %, "
        f"{rates.rows * first / 100:,.0f}. Both versions score every row, so that takes no day longer."
    )


def gate_rows(study: Study, settings: PolicyStudy) -> list[tuple[str, ...]]:
    """A row per margin and length."""
    best = recommended(study.gate)
    return [
        (
            f"{one.margin:g}",
            str(one.days),
            f"{percent(one.equal)} ({percent(one.fewest_equal)})",
            f"{percent(one.worse)} ({percent(one.most_worse)})",
            percent(one.better),
            _marked(one is best, (one.margin, one.days) == (settings.gate.loss_margin, settings.holdout_days)),
        )
        for one in study.gate
    ]


def rollout_rows(study: Study, settings: PolicyStudy) -> list[tuple[str, ...]]:
    """A row per margin and limit."""
    best, now = recommended(study.rollouts), settings.rollout
    return [
        (
            f"{one.margin:g}",
            str(one.days),
            percent(one.equal_promoted),
            f"{percent(one.equal_rolled_back)} ({percent(one.most_equal_rolled_back)})",
            f"{percent(one.worse_promoted)} ({percent(one.most_worse_promoted)})",
            percent(one.worse_rolled_back),
            percent(one.better_promoted),
            *("" if math.isnan(days) else f"{days:.0f}" for days in (one.days_equal, one.days_better, one.days_worse)),
            _marked(one is best, (one.margin, one.days) == (now.max_loss_increase, now.quality_limit_days)),
        )
        for one in study.rollouts
    ]


def _marked(recommended: bool, now: bool) -> str:
    return ", ".join(word for word, holds in (("as it is", now), ("recommended", recommended)) if holds)


def page(use_case: UseCase, study: Study, settings: PolicyStudy) -> str:
    """The study in Markdown."""
    objective = use_case.objective
    unit = (
        f"{objective.loss_name}, in units of {objective.scale:g} {objective.unit} squared"
        if isinstance(objective, Regression)
        else objective.loss_name
    )
    told = "\n".join(f"- {line}" for line in conclusions(use_case, study, settings))
    passed, kept = percent(MAX_PASSED), percent(MIN_PASSED)
    rolled_back, promoted, kept_too = percent(MAX_ROLLED_BACK), percent(MAX_PROMOTED), percent(MIN_PROMOTED)
    spread = table(
        ("model", "loss", "calibration"),
        [(name, f"{one.loss:.4f}", f"{one.calibration:.4f}") for name, one in study.spread.items()],
    )
    stops = table(
        ("check", "keeps equal models from passing", "limit with which 9 of 10 pass"),
        [
            (f"`{check}`", percent(fmean(one.stopped.get(check, 0.0) for one in study.now)), _limit(study.now, check))
            for check in study.now[0].stopped
        ],
    )
    return f"""\
# The policy on this history: {use_case.name}

How often do gate and rollout err on these days? Made by the job `policy_study`, with the code that decides.

{told}

![Holdouts that pass; how rollouts end](policy-study.png)

## Gate

Holdouts that pass, in brackets by the worst model: the one that passes least often where it is equal, most often where
it is worse. Worse and better are {WORSE:g} margins.

{table(GATE, gate_rows(study, settings))}

Of equal ones, by the policy as it is, on {study.now[0].days} days (by the worst model):

{stops}

## Rollouts

How they end; what is left stays undecided for `quality_limit_days`. In brackets the worst model; days are medians.

{table(ROLLOUT, rollout_rows(study, settings))}

## What was simulated

A champion was fitted on the first half of the labelled days; it forecast the second: {study.rows:,} rows of
{study.days} days. The other models differ as releases do. Each is set apart from the champion by an exact amount of
loss ({unit}) over all these days, by blending the better one with a model that knows the request alone. So an equal one
is equal on average, and differs row by row. The standard deviation of its difference by day:

{spread}

Days were drawn with replacement, in blocks of {BLOCK} that follow each other: {study.replicates:,} holdouts and
rollouts for each model and margin. A rollout looks each midnight; its other clocks are taken to be good, its labels
to be complete.

Recommended is the smallest margin, and for it the fewest days, at which

- the gate lets at most {passed} of worse models pass and at least {kept} of equal ones;
- at most {rolled_back} of equal versions are rolled back, at most {promoted} of worse ones promoted, and at least
  {kept_too} of equal ones.

These are means over the models; one of them may do worse.

A season that is not among these days is not in these rates. With {study.replicates:,} draws a rate of 5 % is known to
about {percent(2 * math.sqrt(0.05 * 0.95 / study.replicates))} for one model, half that for the mean of four.
"""


def _limit(found: Sequence[Passed], check: str) -> str:
    bound = max(one.bounds.get(check, -math.inf) for one in found)
    return f"{bound:.4f}" if math.isfinite(bound) else ""


def picture(study: Study, settings: PolicyStudy) -> Figure:
    """Above equal ones, below worse ones: shares that pass by days of the holdout, and that are promoted in time."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharey=True, sharex="col")
    margins = sorted({one.margin for one in study.gate})
    for row, kind in enumerate(("equal", "worse")):
        for margin in margins:
            some = [one for one in study.gate if one.margin == margin]
            width = 2.5 if margin == settings.gate.loss_margin else 1.2
            shares = [getattr(one, kind) for one in some]
            axes[row, 0].plot([one.days for one in some], shares, marker="o", linewidth=width, label=f"{margin:g}")
        for margin in sorted({one.margin for one in study.rollouts}):
            ended = [one for one in study.rollouts if one.margin == margin]
            width = 2.5 if margin == settings.rollout.max_loss_increase else 1.2
            days = [one.days for one in ended]
            promoted = [getattr(one, f"{kind}_promoted") for one in ended]
            rolled_back = [getattr(one, f"{kind}_rolled_back") for one in ended]
            (line,) = axes[row, 1].plot(days, promoted, marker="o", linewidth=width, label=f"{margin:g}")
            axes[row, 1].plot(days, rolled_back, linestyle="--", linewidth=width, color=line.get_color())
        axes[row, 0].set_ylabel(f"{kind} models")
        axes[row, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0, 0].set(title="pass the gate", ylim=(-0.02, 1.02))
    axes[0, 1].set(title="promoted (line), rolled back (dashes)")
    axes[1, 0].set_xlabel("days of holdout")
    axes[1, 1].set_xlabel("days of rollout at most")
    for side, name in enumerate(("loss_margin", "max_loss_increase")):
        axes[0, side].legend(title=name, fontsize=8)
    return figure
