"""The policy on two histories: `python -m bench.policy_study` writes docs/policy-study-*.md, as the job would.

Flights are those of `python3 dev.py demo`, bikes those of the tests.
"""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

import pandas as pd
from rich.console import Console
from tests.bike_tables import raw_tables
from tests.bikes import USE_CASE as BIKES

from bench.flights import ROOT, labelled
from bench.gate import defaults
from flight_delays.core.backtest import backtest
from flight_delays.core.settings import PolicyStudy
from flight_delays.core.use_case import UseCase
from flight_delays.tasks.policy_study import studied
from flight_delays.tasks.try_out import labelled_now
from flight_delays.use_case import USE_CASE
from flight_delays.views.policy_study import conclusions, page, picture


def bikes() -> pd.DataFrame:
    """The whole year."""
    return labelled_now(BIKES, raw_tables().__getitem__, datetime(2012, 1, 1, tzinfo=UTC))


HISTORIES: dict[str, tuple[UseCase, Callable[[], pd.DataFrame]]] = {
    "flights": (USE_CASE, labelled),
    "bikes": (BIKES, bikes),
}


def main() -> None:
    """Study each, and write its page and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=200, help="of each model and margin (default: %(default)s)")
    parser.add_argument("histories", nargs="*", default=[*HISTORIES], metavar="history", help=", ".join(HISTORIES))
    given = parser.parse_args()
    console = Console()
    for name in given.histories:
        use_case, read = HISTORIES[name]
        settings = defaults(PolicyStudy, experiment=name, replicates=given.replicates)
        history = backtest(use_case, read(), on_model=lambda what: console.print(f"Fitting {what} ..."))
        study = studied(use_case, history, settings, console)
        for line in conclusions(use_case, study, settings):
            console.print(f"- {line}", soft_wrap=True)
        text = page(use_case, study, settings).replace("policy-study.png", f"policy-study-{name}.png")
        (ROOT / "docs" / f"policy-study-{name}.md").write_text(text, encoding="utf-8")
        picture(study, settings).savefig(ROOT / "docs" / f"policy-study-{name}.png", dpi=110)


if __name__ == "__main__":
    main()
