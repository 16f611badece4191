"""How often whole rollouts err: `python -m bench.rollouts` writes docs/rollout-error-rates.md and its picture.

Days are drawn from the real ones of bench/pairs.npz, in blocks of days that follow each other.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

# Before NumPy is loaded: the work is spread over processes, not over threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.progress import track
from scipy import stats

from bench.error_rates import worse_in_words
from bench.gate import CHALLENGERS, ROOT, defaults, read
from bench.rollout_rules import (
    CLOCK,
    FAILURES,
    MATURITY,
    ONCE,
    RULES,
    SEQUENCES,
    Pair,
    autocorrelated,
    by_rule,
    first_above,
    held_at,
    pair,
)
from flight_delays.core.backtest import History
from flight_delays.core.drawn import Ended, drawn_days, rolled_out
from flight_delays.core.markdown import percent, table
from flight_delays.core.metrics import Floats
from flight_delays.core.quality import reach
from flight_delays.core.settings import RolloutPolicy

AMOUNTS = (-0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02)  # of loss above the champion's
EQUAL, WORSE, BETTER = 0.0, 0.02, -0.02
BLOCK = 14
CORRELATIONS = (0.0, 0.2, 0.4, 0.6)
EFFECT = 0.5  # mean over standard deviation of a day: about that of a challenger that is 0.02 worse
WIDTHS = (21, 30, 60, 90)  # days
PROMISED, PASSED_WORSE = 0.05, 0.01
CHUNK = 50


@dataclass(frozen=True)
class Variant:
    """Rollouts under another policy, or on days drawn otherwise."""

    name: str
    policy: RolloutPolicy
    block: int = BLOCK


Results = Mapping[float, Mapping[str, Mapping[str, Ended]]]  # by amount, challenger and rule


def variants(policy: RolloutPolicy) -> list[Variant]:
    """What the rates are compared with."""
    return [
        Variant("`max_loss_increase` 0.005", replace(policy, max_loss_increase=0.005)),
        Variant("`max_loss_increase` 0.02", replace(policy, max_loss_increase=0.02)),
        Variant("`quality_limit_days` 90", replace(policy, quality_limit_days=90)),
        Variant("`quality_min_days` 7", replace(policy, quality_min_days=7)),
        Variant("single days", policy, 1),
        Variant("blocks of 28 days", policy, 28),
    ]


def pairs(history: History) -> dict[tuple[float, str], Pair]:
    """Each challenger against the champion, made worse by each amount."""
    return {(amount, name): pair(history, *history.apart(name, amount)) for amount in AMOUNTS for name in CHALLENGERS}


def simulate(
    found: Mapping[tuple[float, str], Pair],
    variant: Variant,
    amounts: Iterable[float],
    replicates: int,
    *,
    rules: bool = False,
) -> Results:
    """Rollouts for all challengers, over every core; the same numbers in whatever order the parts end."""
    parts = [min(CHUNK, replicates - done) for done in range(0, replicates, CHUNK)]
    cells = [(amount, name) for amount in amounts for name in CHALLENGERS]
    jobs = [(found[cell], variant, part, seed, rules) for cell in cells for seed, part in enumerate(parts)]
    with multiprocessing.Pool() as pool:
        done = pool.imap(_ended, jobs)
        ended = list(track(done, f"Rolling out: {variant.name}", total=len(jobs)))
    results: dict[float, dict[str, dict[str, Ended]]] = {}
    for at, (amount, name) in enumerate(cells):
        of_cell = ended[at * len(parts) : (at + 1) * len(parts)]
        results.setdefault(amount, {})[name] = {rule: _together([one[rule] for one in of_cell]) for rule in of_cell[0]}
    return results


def _ended(job: tuple[Pair, Variant, int, int, bool]) -> dict[str, Ended]:
    found, variant, replicates, seed, rules = job
    rng, days = np.random.default_rng(seed), variant.policy.quality_limit_days
    drawn = np.array([drawn_days(rng, len(found.rows), days, variant.block) for _ in range(replicates)])
    others = by_rule(found, drawn, variant.policy) if rules else {}
    return {CLOCK: rolled_out(found.paired, drawn, variant.policy, MATURITY), **others}


def _together(parts: Sequence[Ended]) -> Ended:
    return Ended(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def simulate_sequences(replicates: int, days: int, alpha: float) -> dict[tuple[float, float], dict[str, Floats]]:
    """By autocorrelation and mean: after how many days each sequence's lower bound is above 0."""
    jobs = [(r, mean, days, alpha, replicates) for r in CORRELATIONS for mean in ((0.0, EFFECT) if r == 0 else (0.0,))]
    with multiprocessing.Pool() as pool:
        done = track(pool.imap(_crossed, jobs), "Days that resemble the day before", total=len(jobs))
        return {job[:2]: crossed for job, crossed in zip(jobs, done, strict=True)}


def _crossed(job: tuple[float, float, int, float, int]) -> dict[str, Floats]:
    correlation, mean, days, alpha, replicates = job
    return first_above(autocorrelated(np.random.default_rng(1), replicates, days, correlation) + mean, alpha)


def rates(results: Results, amount: float, what: str, rule: str = CLOCK) -> list[float]:
    """The share of rollouts that were `promoted` or `rolled_back`, of each challenger."""
    return [float(getattr(ended[rule], what).mean()) for ended in results[amount].values()]


def page(
    results: Results,
    others: Mapping[str, Results],
    crossed: Mapping[tuple[float, float], Mapping[str, Floats]],
    policy: RolloutPolicy,
    replicates: int,
    few: int,
    took: str,
) -> str:
    """The study in Markdown; `took` says how long it ran, and on what."""
    all_of = {amount: {rule: _together([one[rule] for one in found.values()]) for rule in (CLOCK, *RULES)}
              for amount, found in results.items()}  # fmt: skip
    equal, worse, better = (all_of[amount][CLOCK] for amount in (EQUAL, WORSE, BETTER))

    def shown(amount: float, what: str, rule: str = CLOCK, of: Results = results) -> str:
        found = rates(of, amount, what, rule)
        return f"{percent(np.mean(found))} ({percent(max(found))})"

    def undecided(amount: float, rule: str = CLOCK, of: Results = results) -> str:
        sides = zip(rates(of, amount, "promoted", rule), rates(of, amount, "rolled_back", rule), strict=True)
        return percent(1 - np.mean([sum(both) for both in sides]))

    def days(ended: Ended, which: Floats | None = None) -> str:
        found = ended.days if which is None else ended.days[which]
        return f"{np.median(found):.0f} ({np.quantile(found, 0.9):.0f})" if len(found) >= 20 else ""

    the_clock = table(
        ("challenger", "promoted", "rolled back", "undecided", "days until it ends", "days until promoted",
         "rows to the challenger"),
        [
            (worse_in_words(amount), shown(amount, "promoted"), shown(amount, "rolled_back"), undecided(amount),
             days(ended[CLOCK]), days(ended[CLOCK], ended[CLOCK].promoted),
             f"{ended[CLOCK].exposed.mean():,.0f} of {ended[CLOCK].rows.mean():,.0f}")
            for amount, ended in all_of.items()
        ],
    )  # fmt: skip
    the_rules = table(
        ("rule", "equal: rolled back", "equal: promoted", "days", "0.01 worse: promoted", "0.02 worse: promoted",
         "rolled back", "days", "0.01 better: promoted", "days"),
        [
            (rule, shown(EQUAL, "rolled_back", rule), percent(np.mean(rates(results, EQUAL, "promoted", rule))),
             days(all_of[EQUAL][rule]), shown(0.01, "promoted", rule), shown(WORSE, "promoted", rule),
             percent(np.mean(rates(results, WORSE, "rolled_back", rule))), days(all_of[WORSE][rule]),
             percent(np.mean(rates(results, -0.01, "promoted", rule))), days(all_of[-0.01][rule]))
            for rule in (CLOCK, *RULES)
        ],
    )  # fmt: skip
    the_variants = table(
        ("", "equal: rolled back", "equal: promoted", "0.01 worse: promoted", "0.02 worse: promoted", "rolled back"),
        [
            (name, shown(EQUAL, "rolled_back", of=of), percent(np.mean(rates(of, EQUAL, "promoted"))),
             shown(0.01, "promoted", of=of), shown(WORSE, "promoted", of=of),
             percent(np.mean(rates(of, WORSE, "rolled_back"))))
            for name, of in (("as above", results), *others.items())
        ],
    )  # fmt: skip
    alpha, limit = 1 - policy.quality_confidence, policy.quality_limit_days
    the_sequences = table(
        ("lower bound", *(f"autocorrelation {r:g}" for r in CORRELATIONS), f"{EFFECT:g}: half", "80 %"),
        [
            (name, *(percent(np.isfinite(crossed[r, 0.0][name]).mean()) for r in CORRELATIONS),
             *(_seen(crossed[0.0, EFFECT][name], limit, share) for share in (0.5, 0.8)))
            for name in SEQUENCES
        ],
    )  # fmt: skip
    the_widths = table(
        ("days", "sequence", "t-test at that day alone", "ratio"),
        [
            (n, f"{reach(n, alpha):.2f}", f"{stats.t.ppf(1 - alpha, n - 1):.2f}",
             f"{reach(n, alpha) / stats.t.ppf(1 - alpha, n - 1):.2f}")
            for n in WIDTHS
        ],
    )  # fmt: skip
    by_share = table(
        ("`quality_needed_for`", "waits at", *(worse_in_words(amount) for amount in AMOUNTS)),
        [
            (needed, f"{share} %", *(f"{ended[CLOCK].rows.mean() * share / 100:,.0f}" for ended in all_of.values()))
            for needed, share in _waits(policy)
        ],
    )
    drawn, fixed = len(CHALLENGERS) * replicates, fixed_length(EFFECT, alpha)
    worst_equal, worst_passed = max(rates(results, EQUAL, "rolled_back")), max(rates(results, WORSE, "promoted"))
    return f"""\
# The error rates of rollouts

How often does a rollout promote a worse version, and how often does it roll back an equal one, if quality is looked at
every day? Made by `python -m bench.rollouts`, with the code that decides rollouts (`core/quality.py`,
`core/rollout.py`) and the policy of `databricks.yml`: {policy_line(policy)}. It took {took}.

- **An equal version is rolled back in {percent(np.mean(rates(results, EQUAL, "rolled_back")))} of rollouts** (worst
  pair {percent(worst_equal)}); at most {percent(PROMISED)} are promised.
- **A version whose loss is 0.02 above the champion's is promoted in
  {percent(np.mean(rates(results, WORSE, "promoted")))}** (worst pair {percent(worst_passed)}), and rolled back in
  {percent(worse.rolled_back.mean())}, half of those within {np.median(worse.days[worse.rolled_back]):.0f} days. After
  {limit} days a person is asked about the rest.
- **The price is time.** An equal version is promoted in {percent(equal.promoted.mean())}, half of those within
  {np.median(equal.days[equal.promoted]):.0f} days, and undecided in {undecided(EQUAL)}. One that is 0.02 better is
  promoted in {percent(better.promoted.mean())}, half of those within
  {np.median(better.days[better.promoted]):.0f} days.
- **Requests are not the price.** Quality is waited for at {held_at(policy)} % of the requests: one that is 0.02 worse
  answers {worse.exposed.mean():,.0f} rows of {worse.rows.mean():,.0f} until its rollout ends. A larger share would not
  save a day ([below](#rows-to-the-challenger)).

![Rollouts by day; errors of each rule; errors on autocorrelated days](rollout-error-rates.png)

## What was simulated

The champion and the challengers of [the gate's study](error-rates.md), made worse or better by an exact amount of log
loss over 184 days. An equal one differs flight by flight: its daily difference varies by 0.007 to 0.03, depending on
the pair. Rollouts go through `rollout_stages`, an hour each, and wait at {held_at(policy)} % for quality. Labels
of a day are known a day after it ended; each midnight is a look. Days are drawn in blocks of {BLOCK} that follow each
other, {replicates:,} rollouts for each pair and amount: {drawn:,} for each rate, whose standard error is at most
{percent(0.5 / drawn**0.5)}. The other clocks are taken to be good.

## Rollouts

In brackets the worst pair: the highest rate of any. Days are medians, in brackets 9 of 10.

{the_clock}

## How it is decided

Loss is the success criterion, calibration (how far a day's mean forecast is from the mean outcome) the one guardrail;
both are the challenger's minus the champion's, and more is worse.

- Promoted: both upper bounds are at most their margins, on at least `quality_min_days` days. All have to hold, so each
  bound has the whole error of {percent(alpha)}.
- Rolled back: a lower bound is above 0 for loss, or above its margin for calibration. One is enough, so each has half
  of {percent(alpha)}. Before `quality_min_days` a loss has to be above its margin too.
- Undecided for `quality_limit_days`: a person is asked, or it is rolled back (`when_undecided`).

## Other rules on the same days

They look at loss alone.

{the_rules}

- `asymptotic sequence`: Waudby-Smith et al. 2021, over days. It decides sooner, as it takes the variance for known and
  days for independent; where they are not, it errs more often than promised ([below](#the-confidence-sequence)).
- `t-test every day`: a test of a fixed length, looked at daily from `quality_min_days` on. `{ONCE}`: at the one
  look for which it is made; it takes days for independent too.
- `sequence over rows`: a day's rows taken for independent.
- `fixed threshold`, as in Argo Rollouts: rolled back after {FAILURES} days in a row whose loss is above the margin,
  else promoted after {policy.quality_min_days} days.
- `Mann-Whitney`, as in Kayenta: rolled back if the challenger's daily losses are shown to be higher than the
  champion's, not paired by day, else promoted after {policy.quality_min_days} days. It sees nothing, because days
  differ more than versions.

## Other policies, other days

{few:,} rollouts for each pair and amount.

{the_variants}

## Rows to the challenger

Mean number of rows that the challenger answers until the rollout ends, by the share at which it waits for quality: both
versions score every row at any share, so decisions are the same.

{by_share}

## The confidence sequence

A t-test that may be looked at every day: the Bayes factor of a normal prior on the effect size, inverted. The tests
check its formula against quadrature of the non-central t distribution (`tests/unit/test_quality.py`). How many standard
errors a bound is away from the mean, one-sided at {percent(alpha)}:

{the_widths}

What looking every day costs: to see a mean of {EFFECT:g} standard deviations in 80 % of cases a t-test of a fixed
length takes {fixed} days, and has to know this mean beforehand. The clock takes
{_seen(crossed[0.0, EFFECT][CLOCK], limit, 0.8)}, in half of the cases at most
{_seen(crossed[0.0, EFFECT][CLOCK], limit, 0.5)}.

Real daily differences in loss have an autocorrelation of up to 0.2 from day to day. The sequence therefore counts fewer
days where they resemble the day before. How often a lower bound that promises {percent(alpha)} is ever above 0 in
{limit} days where the mean is 0, and after how long it is in half and in 80 % of cases where the mean is {EFFECT:g}:

{the_sequences}

- `all days count`: the same sequence without that correction. `whole weeks`: the sequence over means of seven days.
- The clock keeps its promise up to an autocorrelation of about 0.4. Whole weeks keep it always, and see too little.

## How to read it, and its limits

- A difference of 0.02 in log loss is half a standard deviation of a day here. A month of days is what it takes.
- At the margin a promotion is an error: {shown(0.01, "promoted")} at a margin of {policy.max_loss_increase:g}. Within
  it, an equal version and one that is 0.005 worse can hardly be told apart in {limit} days.
- Bounds assume normal days. Daily differences are skewed and have heavy tails; `quality_min_days` is there for that.
- The days are one half-year of one city. Two weeks in which an equal version does worse are in many drawn rollouts, and
  are most of the errors of the worst pair.
- Every day counts the same, however few rows it has. Labels are complete a day later; where they are not, days do not
  count and rollouts take longer.
- The other clocks' own errors are not in these rates.
"""


def policy_line(policy: RolloutPolicy) -> str:
    """The settings that the rates depend on."""
    names = ("max_loss_increase", "max_calibration_increase", "quality_min_days", "quality_limit_days")
    names = (*names, "quality_needed_for", "quality_confidence")
    return ", ".join(f"`{name}` {getattr(policy, name)}" for name in names)


def _waits(policy: RolloutPolicy) -> list[tuple[int, int]]:
    stages = policy.rollout_stages
    return [(after, before) for before, after in pairwise(stages)]


def _seen(days: Floats, limit: int, share: float) -> str:
    found = float(np.quantile(days, share, method="higher"))
    return f"{found:.0f} days" if np.isfinite(found) else f"over {limit} days"


def fixed_length(effect: float, alpha: float, power: float = 0.8) -> int:
    """Days that a one-sided t-test of a fixed length needs."""
    lengths = np.arange(3, 1_000)
    seen = stats.nct.sf(stats.t.ppf(1 - alpha, lengths - 1), lengths - 1, effect * np.sqrt(lengths))
    return int(lengths[seen >= power][0])


def picture(
    results: Results, crossed: Mapping[tuple[float, float], Mapping[str, Floats]], policy: RolloutPolicy
) -> Figure:
    """Rollouts promoted and rolled back by day; both errors of each rule; errors on autocorrelated days."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    by_day, errors, correlated = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    days = np.arange(policy.quality_limit_days + 1)
    for amount, colour in ((BETTER, "tab:green"), (EQUAL, "tab:blue"), (0.01, "tab:orange"), (WORSE, "tab:red")):
        ended = _together([found[CLOCK] for found in results[amount].values()])
        for which, style in ((ended.promoted, "-"), (ended.rolled_back, "--")):
            share = [np.mean(which & (ended.days <= day)) for day in days]
            by_day.plot(days, share, style, color=colour, label=worse_in_words(amount) if style == "-" else None)
    by_day.set(xlabel="days", ylabel="rollouts", ylim=(-0.02, 1.02), title="promoted (line), rolled back (dashes)")
    by_day.legend(fontsize=8, loc="center left")
    rules = (CLOCK, *RULES)
    heights = np.arange(len(rules))
    wrong = [np.mean(rates(results, EQUAL, "rolled_back", rule)) for rule in rules]
    passed = [np.mean(rates(results, WORSE, "promoted", rule)) for rule in rules]
    errors.barh(heights - 0.2, wrong, 0.4, color="tab:blue", label="equal, rolled back")
    errors.barh(heights + 0.2, passed, 0.4, color="tab:red", label="0.02 worse, promoted")
    errors.axvline(PROMISED, color="grey", linewidth=1, linestyle="--")
    errors.set(yticks=heights, yticklabels=rules, xlim=(0, 1), title="errors of each rule")
    errors.invert_yaxis()
    errors.legend(fontsize=8, loc="upper right")
    for name in SEQUENCES:
        share = [np.isfinite(crossed[r, 0.0][name]).mean() for r in CORRELATIONS]
        correlated.plot(CORRELATIONS, share, marker="o", linewidth=2.5 if name == CLOCK else 1.2, label=name)
    correlated.axhline(1 - policy.quality_confidence, color="grey", linewidth=1, linestyle="--")
    correlated.set(
        xlabel="autocorrelation of days", xticks=CORRELATIONS, title="a difference that is not there is seen"
    )
    correlated.legend(fontsize=8)
    for axis in (by_day.yaxis, errors.xaxis, correlated.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def main() -> None:
    """Simulate, and write the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, default=ROOT / "bench" / "pairs.npz", help="forecasts")
    parser.add_argument(
        "--replicates", type=int, default=1_000, help="rollouts per pair and amount (default: %(default)s)"
    )
    parser.add_argument("--few", type=int, default=200, help="the same for other policies (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder to write to (default: docs)")
    arguments = parser.parse_args()
    begun, policy = time.monotonic(), defaults(RolloutPolicy)
    found = pairs(read(arguments.pairs))
    results = simulate(found, Variant("default policy", policy), AMOUNTS, arguments.replicates, rules=True)
    others = {one.name: simulate(found, one, (EQUAL, 0.01, WORSE), arguments.few) for one in variants(policy)}
    crossed = simulate_sequences(2 * arguments.replicates, policy.quality_limit_days, 1 - policy.quality_confidence)
    took = f"{(time.monotonic() - begun) / 60:.0f} minutes on {os.cpu_count()} cores"
    (arguments.out / "rollout-error-rates.md").write_text(
        page(results, others, crossed, policy, arguments.replicates, arguments.few, took)
    )
    picture(results, crossed, policy).savefig(arguments.out / "rollout-error-rates.png", dpi=110)
    print(f"{arguments.out / 'rollout-error-rates.md'}, in {took}")


if __name__ == "__main__":
    main()
