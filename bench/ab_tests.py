"""How often A/B tests err: `python -m bench.ab_tests` writes docs/ab-test-error-rates.md and its picture.

Days are the real ones of bench/pairs.npz, drawn in blocks; each flight of a day is given to one of two versions.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence

# Before NumPy is loaded: the work is spread over processes, not over threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy import stats
from sklearn.utils.parallel import Parallel, delayed

from bench.gate import CHALLENGERS, ROOT, read
from flight_delays.core.ab_test import FEWEST_DAYS
from flight_delays.core.backtest import History
from flight_delays.core.drawn import BLOCK, ab_differences, drawn_days, first_shown
from flight_delays.core.markdown import percent, table
from flight_delays.core.metrics import Floats

DAYS, CONFIDENCE = 120, 0.95
AMOUNTS = (0.01, 0.02, 0.04, 0.06)  # of loss
SHARES = (20, 50)  # %
LOOKS = (7, 14, 28, 60, 90, 120)
SEQUENCE, PEEKING = "the bounds", "t-test every day"
SAME = "the champion itself"


def tests_of(history: History, name: str, amount: float, share: int, replicates: int, seed: int) -> dict[str, Floats]:
    """By rule: after how many days each test shows the difference, and (A/A, or the wrong way) an error."""
    rng = np.random.default_rng(seed)
    if name == SAME:
        challenger = champion = history.evidence.forecasts
    else:
        challenger, champion = history.apart(name, amount)
    drawn = [drawn_days(rng, history.days, DAYS, BLOCK) for _ in range(replicates)]
    values = ab_differences(history, challenger, champion, drawn, share, rng)
    better, worse = first_shown(values, CONFIDENCE)
    peeked = peeking(values)
    return {
        "shown": np.where(amount > 0, worse, np.minimum(better, worse)),
        "wrong": better if amount > 0 else np.minimum(better, worse),
        PEEKING: peeked,
    }


def peeking(values: Floats) -> Floats:
    """After how many days a two-sided t-test of a fixed length, looked at daily, first shows a difference."""
    n = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(axis=1) / n
    with np.errstate(all="ignore"):
        variance = np.maximum((values**2).cumsum(axis=1) - n * mean**2, 0) / (n - 1)
        shown = np.abs(mean) / np.sqrt(variance / n) > stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    shown &= n >= FEWEST_DAYS
    return np.where(shown.any(axis=1), n[shown.argmax(axis=1)], np.inf)


def share_by(found: Floats, day: int) -> float:
    """Of tests that had concluded by then."""
    return float((found <= day).mean())


Results = Mapping[tuple[str, float, int], Mapping[str, Floats]]


def simulate(history: History, replicates: int) -> Results:
    """A/A tests of each model with itself, and A/B tests of each challenger at each amount, by share."""
    cells = [(SAME, 0.0, share) for share in SHARES]
    cells += [(name, amount, share) for name in CHALLENGERS for amount in (0.0, *AMOUNTS) for share in SHARES]
    jobs = [
        delayed(tests_of)(history, *cell, replicates if cell[0] != SAME else 4 * replicates, seed)
        for seed, cell in enumerate(cells)
    ]
    return dict(zip(cells, Parallel(n_jobs=-1, verbose=5)(jobs), strict=True))


def together(results: Results, amount: float, share: int, what: str) -> Floats:
    """All challengers' tests."""
    return np.concatenate([results[name, amount, share][what] for name in CHALLENGERS])


def page(results: Results, replicates: int, took: str) -> str:
    """The study in Markdown."""
    wrong = {share: share_by(results[SAME, 0.0, share]["wrong"], DAYS) for share in SHARES}
    half = {amount: _days(together(results, amount, 20, "shown"), 0.5) for amount in AMOUNTS}
    of_same = table(
        ("", *(f"by day {day}" for day in LOOKS)),
        [
            (f"{label}, {share} %", *(percent(share_by(found, day)) for day in LOOKS))
            for share in SHARES
            for label, found in (
                (f"A/A: {SEQUENCE}", results[SAME, 0.0, share]["wrong"]),
                (f"A/A: {PEEKING}", results[SAME, 0.0, share][PEEKING]),
                (f"equal but different: {SEQUENCE}", together(results, 0.0, share, "wrong")),
            )
        ],
    )
    of_different = table(
        ("challenger", "share", *(f"by day {day}" for day in LOOKS), "half by day", "80 % by day", "wrong way"),
        [
            (
                f"{amount:g} worse",
                f"{share} %",
                *(percent(share_by(together(results, amount, share, "shown"), day)) for day in LOOKS),
                _days(together(results, amount, share, "shown"), 0.5),
                _days(together(results, amount, share, "shown"), 0.8),
                percent(share_by(together(results, amount, share, "wrong"), DAYS)),
            )
            for amount in AMOUNTS
            for share in SHARES
        ],
    )
    return f"""\
# The error rates of A/B tests

How often does an A/B test of two versions that are the same end with a difference, and how long does a real one take?
Made by `python -m bench.ab_tests`, with the code that concludes (`core/ab_test.py`). It took {took}.

- **Two versions that are the same are called different in {percent(wrong[20])} of tests** of {DAYS} days that are
  looked at every day (A/A tests, 20 % of the requests to one of them; {percent(wrong[50])} at 50 %). At most
  {percent(1 - CONFIDENCE)} are promised. A t-test that is looked at every day errs in
  {percent(share_by(results[SAME, 0.0, 20][PEEKING], DAYS))}.
- **With 20 % of the requests a version that is 0.04 worse is found in half of the tests by day {half[0.04]}**, one that
  is 0.02 worse by day {half[0.02]}. Small differences are the business of the gate and of the
  [rollout's quality clock](rollout-error-rates.md), which compare both versions on the same rows.

![Tests that have concluded, by day](ab-test-error-rates.png)

## What was simulated

The champion and the challengers of [the gate's study](error-rates.md), made worse by an exact amount of log loss over
184 days: 915 flights a day on average. Days are drawn in blocks of {BLOCK} that follow each other. Of each day each
flight is the challenger's with the probability of its share, as a client that routes by a hash of the entity does. A
day's difference is the mean loss of the challenger's flights minus that of the champion's others. {replicates:,} tests
for each challenger, amount and share; {4 * replicates:,} A/A tests. A test is looked at every day from day
{FEWEST_DAYS} on, and ends at its first conclusion.

## The same, or equal

{of_same}

*Equal but different* are versions with the same loss over all 184 days that differ flight by flight. In a test of weeks
one of them may really have been better: that counts as an error here.

## Different

{of_different}

## How to read it, and its limits

- Bounds assume that daily differences are about normal, and count fewer days where they resemble the day before.
- Labels are complete here. A day that lacks more than a tenth of them does not count, and tests take longer.
- Requests are given to versions one by one. Where one entity is asked for again and again, route by its id
  ([operate.md](operate.md#ab-test)), or it is answered by both versions.
"""


def _days(found: Floats, share: float) -> str:
    day = float(np.quantile(found, share, method="higher"))
    return f"{day:.0f}" if np.isfinite(day) else f"more than {DAYS}"


def picture(results: Results) -> Figure:
    """Left: A/A tests that have concluded, wrongly; right: A/B tests that have, by amount."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    same, different = figure.subplots(1, 2, sharey=True)
    days = np.arange(1, DAYS + 1)

    def curve(found: Floats) -> Sequence[float]:
        return [share_by(found, day) for day in days]

    same.plot(days, curve(results[SAME, 0.0, 20]["wrong"]), linewidth=2.5, label=SEQUENCE)
    same.plot(days, curve(results[SAME, 0.0, 20][PEEKING]), label=PEEKING)
    same.axhline(1 - CONFIDENCE, color="grey", linewidth=1, linestyle="--")
    same.set(title="A/A: called different", xlabel="days", ylabel="tests", ylim=(-0.02, 1.02))
    same.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for amount in AMOUNTS:
        (line,) = different.plot(days, curve(together(results, amount, 20, "shown")), label=f"{amount:g} worse, 20 %")
        found = curve(together(results, amount, 50, "shown"))
        different.plot(days, found, linestyle="--", color=line.get_color(), label="50 %")
    different.set(title="A/B: the difference is shown", xlabel="days")
    for axes in (same, different):
        axes.legend(fontsize=8)
    return figure


def main() -> None:
    """Simulate, and write the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=500, help="tests per cell (default: %(default)s)")
    given = parser.parse_args()
    begun = time.monotonic()
    results = simulate(read(ROOT / "bench" / "pairs.npz"), given.replicates)
    took = f"{(time.monotonic() - begun) / 60:.0f} minutes on {os.cpu_count()} cores"
    (ROOT / "docs" / "ab-test-error-rates.md").write_text(page(results, given.replicates, took), encoding="utf-8")
    picture(results).savefig(ROOT / "docs" / "ab-test-error-rates.png", dpi=110)


if __name__ == "__main__":
    main()
