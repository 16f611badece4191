"""How often the validation gate errs: `python -m bench.gate` writes docs/error-rates.md and its picture.

bench/pairs.npz holds the forecasts of several models, all trained on January to June 2013, for July to December.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

# Before NumPy is loaded: the work is spread over processes, not over threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.progress import track

from bench.chains import EVERY, RELEASES, Chain, Levels, chain, levels
from bench.error_rates import (
    DAY_LEVEL,
    GATE,
    OLD_GATE,
    RULES,
    Pair,
    Tally,
    old,
    pair,
    tally,
    worse_in_words,
)
from flight_delays.core.backtest import History
from flight_delays.core.gates import Evidence, Outcome
from flight_delays.core.markdown import percent, table
from flight_delays.core.settings import Policy, made
from flight_delays.use_case import USE_CASE
from flight_delays.use_case.slices import time_of_day

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
CHALLENGERS = {
    "other_seed": "the same again with another seed",
    "less_data": "learnt from March to June only",
    "no_weather": "without the weather",
    "logistic": "a logistic regression",
}
LENGTHS = (15, 30, 60, 90)
TIMES = (-0.4, 0, 0.4, 1, 2)  # the margin
STEPS = (0.002, 0.0, -0.002)  # of loss, from each version of a chain to the next challenger
CHAMPION_ALONE = "champion alone"
BLOCK = 7
PUBLISHED = 60  # days, of the tables that show one length
CHUNK = 250


@dataclass(frozen=True, order=True)
class Cell:
    """One published rate: how much worse in margins, on how many days, drawn in blocks of how many."""

    times: float
    days: int
    block: int = 1


@dataclass(frozen=True, order=True)
class ChainCell:
    """One kind of chain: by how much each challenger is worse, on how many days, judged by which rule."""

    step: float
    days: int
    rule: str


Results = Mapping[Cell, Mapping[str, Tally]]  # by challenger
Chains = Mapping[ChainCell, Sequence[Chain]]
CELLS = (
    *(Cell(times, days) for days in LENGTHS for times in TIMES),
    *(Cell(times, PUBLISHED, BLOCK) for times in TIMES),
)


CHAIN_CELLS = tuple(
    ChainCell(step, days, rule)
    for step in STEPS
    for days in (PUBLISHED, max(LENGTHS))
    for rule in (OLD_GATE, CHAMPION_ALONE, GATE)
)


def defaults(declared: type[T], **others: object) -> T:
    """Settings as databricks.yml has them."""
    variables = yaml.safe_load((ROOT / "databricks.yml").read_text())["variables"]
    given = {name: variable["default"] for name, variable in variables.items() if "default" in variable}
    return made(declared, {**given, **others})


def read(file: Path) -> History:
    """What bench/pairs.npz holds."""
    with np.load(file) as stored:
        kept = dict(stored)
    forecasts = {name: kept[name].astype(np.float64) for name in ("champion", "schedule_only", *CHALLENGERS)}
    evidence = Evidence(
        objective=USE_CASE.objective,
        labels=kept["labels"].astype(np.float64),
        forecasts=forecasts["champion"],
        days=kept["days"].astype(np.int64),
        baseline=float(kept["base_rate"]),
        champion=None,
        slices={"carrier": kept["carrier"], "origin": kept["origin"], "time of day": time_of_day(kept["hour"])},
    )
    return History(
        evidence=evidence,
        challengers={name: forecasts[name] for name in CHALLENGERS},
        weak=forecasts["schedule_only"],
    )


def pairs(history: History, policy: Policy) -> dict[tuple[str, float], Pair]:
    """Each challenger against the champion, made worse by each multiple of the margin."""
    found = {}
    for name in CHALLENGERS:
        for times in TIMES:
            challenger, champion = history.apart(name, times * policy.loss_margin)
            found[name, times] = pair(replace(history.evidence, forecasts=challenger, champion=champion))
    return found


def simulate(
    found: Mapping[tuple[str, float], Pair], policy: Policy, replicates: int, cells: Iterable[Cell]
) -> Results:
    """All cells for all challengers, over every core; the same numbers in whatever order the parts end."""
    parts = [min(CHUNK, replicates - done) for done in range(0, replicates, CHUNK)]
    split = enumerate((cell, name, part) for cell in cells for name in CHALLENGERS for part in parts)
    jobs = [(cell, name, found[name, cell.times], policy, part, seed) for seed, (cell, name, part) in split]
    results: dict[Cell, dict[str, Tally]] = {cell: {name: Counter() for name in CHALLENGERS} for cell in cells}
    with multiprocessing.Pool() as pool:
        done = pool.imap_unordered(_counted, jobs)
        for cell, name, counted in track(done, "Judging drawn holdouts", total=len(jobs)):
            results[cell][name].update(counted)
    return results


def _counted(job: tuple[Cell, str, Pair, Policy, int, int]) -> tuple[Cell, str, Tally]:
    cell, name, found, policy, replicates, seed = job
    counted = tally(found, policy, holdout_days=cell.days, block=cell.block, replicates=replicates, seed=seed)
    return cell, name, counted


def simulate_chains(history: History, policy: Policy, replicates: int) -> Chains:
    """Chains of releases of each kind, over every core."""
    policies = {OLD_GATE: old(policy), CHAMPION_ALONE: replace(policy, recent_days=0), GATE: policy}
    versions = {"champion": history.evidence.forecasts, **history.challengers}
    parts = [min(CHUNK, replicates - done) for done in range(0, replicates, CHUNK)]
    results: dict[ChainCell, list[Chain]] = {cell: [] for cell in CHAIN_CELLS}
    for step in STEPS:
        found = levels(history.evidence, versions, history.weak, step)
        cells = [cell for cell in CHAIN_CELLS if cell.step == step]
        jobs = [(cell, policies[cell.rule], n, seed) for cell in cells for seed, n in enumerate(parts)]
        with multiprocessing.Pool(initializer=_give, initargs=(found,)) as pool:
            done = pool.imap(_chained, jobs)
            for cell, chains in track(done, f"Judging chains of {step:+g}", total=len(jobs)):
                results[cell] += chains
    return results


_given: Levels = {}  # of this process: too large to be sent with each job


def _give(found: Levels) -> None:
    global _given
    _given = found


def _chained(job: tuple[ChainCell, Policy, int, int]) -> tuple[ChainCell, list[Chain]]:
    cell, policy, replicates, seed = job
    rng = np.random.default_rng(seed)
    return cell, [chain(_given, cell.step, policy, holdout_days=cell.days, rng=rng) for _ in range(replicates)]


def rate(tallies: Iterable[Tally], what: str, outcome: Outcome = Outcome.PASS) -> float:
    """Share of holdouts on which `what` gave `outcome`."""
    tallies = list(tallies)
    asked = sum(sum(found[GATE, str(each)] for each in Outcome) for found in tallies)
    return sum(found[what, str(outcome)] for found in tallies) / asked


def worst(cell: Cell, tallies: Mapping[str, Tally], rule: str) -> float:
    """The rate of PASS of the worst pair: the lowest of equal or better ones, the highest of worse ones."""
    rates = [rate([found], rule) for found in tallies.values()]
    return min(rates) if cell.times <= 0 else max(rates)


def page(results: Results, chains: Chains, policy: Policy, replicates: int, took: str) -> str:
    """The study in Markdown; `took` says how long it ran, and on what."""
    equal, twice = (results[Cell(times, PUBLISHED)] for times in (0, 2))
    longest, drawn = max(LENGTHS), len(CHALLENGERS) * replicates
    shown = {times: results[Cell(times, PUBLISHED)].values() for times in TIMES}
    checks = sorted({check for tallies in shown.values() for found in tallies for check, _ in found} - set(RULES))
    rate_of_twice, worst_twice = (
        percent(rate(twice.values(), GATE)),
        percent(worst(Cell(2, PUBLISHED), twice, GATE)),
    )
    refused, most_refused = 1 - rate(equal.values(), GATE), 1 - worst(Cell(0, PUBLISHED), equal, GATE)
    failed, refused_longest = (
        rate(equal.values(), GATE, Outcome.FAIL),
        1 - rate(results[Cell(0, longest)].values(), GATE),
    )
    margin, at_margin = policy.loss_margin, percent(rate(results[Cell(1, PUBLISHED)].values(), DAY_LEVEL))
    promised = f"{1 - policy.confidence:.0%}".replace("%", " %")

    def passed(cell: Cell, rule: str = GATE) -> str:
        return f"{percent(rate(results[cell].values(), rule))} ({percent(worst(cell, results[cell], rule))})"

    def kept(found: Iterable[Tally], check: str) -> float:
        return sum(rate(found, check, outcome) for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE))

    def promoted(cell: ChainCell) -> float:
        return float(np.mean([one.promoted for one in chains[cell]]))

    def gained(cell: ChainCell) -> float:
        return float(np.mean([one.gained for one in chains[cell]]))

    def by_rule(step: float) -> tuple[ChainCell, ChainCell]:
        return ChainCell(step, PUBLISHED, GATE), ChainCell(step, PUBLISHED, OLD_GATE)

    (slide, old_slide), (even, old_even), (better, old_better) = map(by_rule, STEPS)

    who_passes = table(
        ("days", "challenger", *RULES),
        [
            (days, _margins(times, policy), *(passed(Cell(times, days), rule) for rule in RULES))
            for days in LENGTHS
            for times in TIMES
        ],
    )
    what_it_says = table(
        ("challenger", *Outcome, *(f"`{check}`" for check in checks)),
        [
            (
                _margins(times, policy),
                *(percent(rate(found, GATE, outcome)) for outcome in Outcome),
                *(percent(kept(found, check)) for check in checks),
            )
            for times, found in shown.items()
        ],
    )
    of_chains = table(
        (
            "days",
            "each challenger",
            "rule",
            f"promoted of {RELEASES}",
            "loss gained, mean",
            "in 1 chain of 20 at least",
        ),
        [
            (
                cell.days,
                worse_in_words(cell.step),
                cell.rule,
                f"{promoted(cell):.1f}",
                f"{gained(cell):+.4f}" if cell.step else "0",
                f"{np.quantile([one.gained for one in found], 0.95):+.3f}" if cell.step > 0 else "",
            )
            for cell, found in chains.items()
        ],
    )
    in_blocks = table(
        ("challenger", "single days", f"blocks of {BLOCK}"),
        [
            (_margins(times, policy), passed(Cell(times, PUBLISHED)), passed(Cell(times, PUBLISHED, BLOCK)))
            for times in TIMES
        ],
    )
    return f"""\
# The gate's error rates

How often does the gate let a worse model pass, and how often does it refuse an equal one? Made by
`python -m bench.gate`, with the gate's own code and the policy of `databricks.yml`:
{policy_line(policy)}. It took {took}.

- **A model worse by twice the margin passes {rate_of_twice} of {PUBLISHED}-day holdouts** (worst pair {worst_twice}).
- **The price: a model that is equal on average but different does not pass {percent(refused)} of them** (worst pair
  {percent(most_refused)}); {percent(failed)} FAIL, the rest are INCONCLUSIVE.
  With {longest} days it is {percent(refused_longest)}.
- **Of {RELEASES} challengers in a row, each {STEPS[0]:g} worse than the version that serves, {promoted(slide):.1f} are
  promoted, and the loss goes up by {gained(slide):.4f}.** With the old gate: {promoted(old_slide):.1f} and
  {gained(old_slide):.4f}.
- **The price: of {RELEASES} challengers in a row that are equal on average {promoted(even):.1f} are promoted, not
  {promoted(old_even):.1f}; of {RELEASES} that are {-STEPS[2]:g} better, {promoted(better):.1f}, not
  {promoted(old_better):.1f}.**

![How often each rule lets a challenger pass, by days of holdout](error-rates.png)

## What was simulated

A champion and four challengers ({"; ".join(CHALLENGERS.values())}),
all trained on January to June 2013, forecast July to December: 184 days. Each challenger is
made worse than the champion by an exact amount of log loss over all 184 days, from
{worse_in_words(TIMES[0] * margin)} to {TIMES[-1]} times the margin of {margin:g}, by blending the better side's log
odds with those of a model that knows the schedule only. So an equal pair is equal on average, and differs flight by
flight. Holdouts are whole days drawn with replacement, {replicates:,} for each pair, length and amount: {drawn:,} for
each rate, whose standard error is at most
{percent(0.5 / drawn**0.5)} ({percent(0.5 / replicates**0.5)} for one pair).

## Who passes

Share of holdouts on which a challenger passes. In brackets the worst pair: the one that passes least often where it is
equal or better, most often where it is worse.

{who_passes}

- `the gate`: all statistical checks, where no other version served recently.
- `the old gate`: a loss that is shown to be above the champion's passes within the margin, as with
  `allow_worse_within_margin`, and only the champion is compared (`recent_days` 0).
- `loss by day`: its check `not_worse_than_champion` alone.
- `loss by row`: the same check with a bootstrap of rows (its normal limit), as if a day's flights did not share
  their weather. Its bounds are too narrow: it lets far more than {promised} pass at the margin.
- `lower loss`: a log loss at most the champion's, no bounds.

## What the gate says

On {PUBLISHED} days, and how often each check kept a challenger from PASS (several may at once).

{what_it_says}

## Chains of {RELEASES} releases

A challenger every {EVERY.days} days: another of the five models, blended to the same distance from whichever version
then serves. Means of {replicates:,} chains, whose holdouts are drawn anew for each release. `{CHAMPION_ALONE}`:
the gate with `recent_days` 0.

{of_chains}

## Days that follow each other

Weather lasts longer than a day. The same {PUBLISHED} days drawn in blocks of {BLOCK} consecutive ones, while the gate
still draws single days:

{in_blocks}

## How to read it, and its limits

- A gate that never passes anything is safe and useless: read the rows of equal and of worse models together.
- At the margin itself a PASS is an error. The log loss check promises {promised} of them and makes {at_margin} on
  {PUBLISHED} days: bounds from few days are a little too narrow, and more so where days resemble their neighbours.
- The gate slows a slide and does not end it: what lies within the bounds of {PUBLISHED} days is not seen, and versions
  that served more than `recent_days` ago are not compared.
- A chain's holdouts are drawn anew for each release. Those of real releases, a month apart, overlap, so that their
  errors are alike.
- The days are one half-year of one city, and every holdout is drawn from them: a season that is not among them is not
  in these rates.
- Calibration bins are those of all 184 days, not of each holdout. Checks without chance (schema, golden requests,
  speed, size, documentation) are left out.
- A blend is worse everywhere. A model that is worse in one slice only is the business of `no_slice_harmed`, whose power
  is not studied here.
"""


def policy_line(policy: Policy) -> str:
    """The settings that the rates depend on."""
    names = ("loss_margin", "allow_worse_within_margin", "recent_days", "max_calibration_error", "calibration_margin")
    return ", ".join(
        f"`{name}` {json.dumps(getattr(policy, name))}" for name in (*names, "slice_margin", "confidence", "draws")
    )


def picture(results: Results, policy: Policy) -> Figure:
    """Rate of PASS over the length of the holdout; one panel per amount, a line per rule."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    for position, times in enumerate(TIMES):
        axes = figure.add_subplot(1, len(TIMES), position + 1)
        for rule in RULES:
            passed = [rate(results[Cell(times, days)].values(), rule) for days in LENGTHS]
            axes.plot(LENGTHS, passed, marker="o", linewidth=2.5 if rule == GATE else 1.2, label=rule)
        if times >= 1:
            axes.axhline(0.05, color="grey", linewidth=1, linestyle="--")
        axes.set(ylim=(-0.02, 1.02), xticks=LENGTHS, xlabel="days of holdout", title=_margins(times, policy))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.axes[0].set_ylabel("challengers that pass")
    figure.axes[-1].legend(fontsize=8)
    return figure


def _margins(times: float, policy: Policy) -> str:
    found = worse_in_words(times * policy.loss_margin)
    return f"{found} ({times:g} x margin)" if times >= 1 else found


def main() -> None:
    """Simulate, and write the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pairs", type=Path, default=ROOT / "bench" / "pairs.npz", help="forecasts, as in bench/pairs.npz"
    )
    parser.add_argument(
        "--replicates", type=int, default=1_000, help="holdouts per pair and rate (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder to write to (default: docs)")
    arguments = parser.parse_args()
    begun, policy = time.monotonic(), defaults(Policy)
    history = read(arguments.pairs)
    results = simulate(pairs(history, policy), policy, arguments.replicates, CELLS)
    chains = simulate_chains(history, policy, arguments.replicates)
    took = f"{(time.monotonic() - begun) / 60:.0f} minutes on {os.cpu_count()} cores"
    (arguments.out / "error-rates.md").write_text(page(results, chains, policy, arguments.replicates, took))
    picture(results, policy).savefig(arguments.out / "error-rates.png", dpi=110)
    print(f"{arguments.out / 'error-rates.md'}, in {took}")


if __name__ == "__main__":
    main()
