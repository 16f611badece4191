"""Quality decides, in simulated days: `python -m bench.simulated_days` writes docs/simulated-days.md and its picture.

The bundle's own jobs on the real flights of 2013, each run at the day that the clock of this process was moved to.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import time_machine
from deltalake import DeltaTable
from matplotlib.figure import Figure
from rich.console import Console
from scipy.optimize import brentq
from tests.worlds import World, make_world

from bench.live_rollout import ROOT, TOKEN, changed, decisions, features, invocations, run, steps_of
from bundle_laptop.session import Session, opened
from flight_delays.core.markdown import table
from flight_delays.core.rollout import ENDS, Action
from flight_delays.platform.load_generator import drive
from flight_delays.tasks.load_test import request_bodies
from flight_delays.use_case import USE_CASE

ALL, FIRST, STORM, LATER = "2013-11-20T12:00:00Z", date(2013, 3, 15), date(2013, 5, 1), date(2013, 9, 15)
JUDGED_DAYS = 14
REQUESTS, CALLERS = 200, 2
MOST_DAYS = 62
VARIABLES = {
    "trials": "1",
    "holdout_days": str(JUDGED_DAYS),
    "rollout_stages": "0,25,50,100",
    "rollout_stage_minutes": "1440",
    "rollout_min_requests": "100",
    # A fortnight shows little, so the gate asks for little.
    "loss_margin": "0.02",
    "max_calibration_error": "0.1",
    "calibration_margin": "0.05",
    # The clock of agreement would stop the lucky version on its first day: its forecasts are 0.06 higher.
    "max_mean_shift": "1",
    "max_distance": "1",
    "max_changed_share": "1",
}
PAGE = """\
# Quality decides, in simulated days

Made by `python -m bench.simulated_days`: the bundle's own jobs on the real flights, on a laptop whose clock is moved
from day to day. Each day callers ask the endpoint for {requests} flights of that day, `score_batch` scores the day
by both versions, and `rollout` takes a step. Labels come a day later. The policy is that of prod, but for stages of
a day at least; for the gate, which judges the last {judged} days alone and so has wider limits; and for the clock of
agreement, whose limits are so wide that quality alone decides (with those of prod it stops version 2 on its first day).

- **Version 1** learnt from January and February, and serves.
- **Version 2** is version 1, its forecasts raised to the late rate of the fortnight before {storm}, when storms made
  {late:.0%} of the flights late. On that fortnight it is judged, and passes: luck.
- **Version 3** learnt until the end of August.

{outcomes}

![Mean difference in loss by day, and what is known of it](simulated-days.png)

## What the job said

Once a week while it holds, and at each step; without what the clocks of errors, latency and agreement found good.

{steps}
"""


def main() -> None:
    """A version that was lucky at the gate, then a better one; then write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    console = Console()
    with TemporaryDirectory() as folder, time_machine.travel(hour(FIRST), tick=True) as clock:
        world = make_world(Path(folder))
        with opened(world.root, "dev", VARIABLES, console) as session:
            run(session, "features", as_of=ALL)
            days = Days(world=world, session=session, clock=clock, flights=features(world))
            run(session, "train", as_of=moment(FIRST))
            clock.move_to(hour(STORM))
            run(session, "score_batch", as_of=moment(STORM))
            version, late = raised(world)
            run(session, "release", model_version=str(version), as_of=moment(STORM))
            ended = days.rolled_out(version, STORM)
            begin = max(LATER, ended + timedelta(days=1))
            clock.move_to(hour(begin))
            run(session, "train", as_of=moment(begin))
            days.rolled_out(version + 1, begin)
        write(world, (version, version + 1), late)


@dataclass(frozen=True, kw_only=True)
class Days:
    """A world that lives day by day: its bundle, opened, the clock of this process, and the flights to ask for."""

    world: World
    session: Session
    clock: time_machine.Traveller
    flights: pd.DataFrame

    def rolled_out(self, version: int, begin: date) -> date:
        """Runs day after day until the version's rollout has ended; the day on which it has."""
        for day in (begin + timedelta(days=number) for number in range(1, MOST_DAYS)):
            self.clock.move_to(hour(day))
            flown = self.flights[self.flights["day"] == day - timedelta(days=1)]
            bodies = request_bodies(flown.sample(REQUESTS, random_state=day.toordinal()), USE_CASE.inputs)
            asked = drive(invocations(self.session.address), TOKEN, bodies, CALLERS, 0, timeout_s=60, once=True)
            if asked.errors:
                raise SystemExit(f"{day}: {asked.why}")
            self.clock.move_to(hour(day, 16))
            run(self.session, "score_batch", as_of=moment(day))
            run(self.session, "rollout")
            outcomes = steps_of(self.world, version)["outcome"]
            self.session.console.print(f"{day}: {outcomes.iloc[-1]}", style="bold")
            if outcomes.isin([*map(str, ENDS)]).any():
                return day
        raise SystemExit(f"version {version} is not at an end after {MOST_DAYS} days")


def raised(world: World) -> tuple[int, float]:
    """Version 1 with its forecasts raised to the late rate of the judged days; its number, and that rate."""
    end = USE_CASE.holdout(datetime.fromisoformat(moment(STORM)), JUDGED_DAYS)
    made = DeltaTable(world.warehouse / "predictions").to_pandas(columns=["entity_id", "probability"])
    labels = DeltaTable(world.warehouse / "labels").to_pandas(columns=["entity_id", "day", "label"])
    judged = made.merge(labels[(labels["day"] >= end.first) & (labels["day"] < end.end)], on="entity_id")
    late, odds = float(judged["label"].mean()), log_odds(judged["probability"])
    shift = brentq(lambda by: float((1 / (1 + np.exp(-(odds + by)))).mean()) - late, -3, 3)

    def edit(files: Path) -> None:
        settings = json.loads((files / "shell.json").read_text(encoding="utf-8"))
        settings["intercept"] += shift
        (files / "shell.json").write_text(json.dumps(settings), encoding="utf-8")
        golden = json.loads((files / "golden.json").read_text(encoding="utf-8"))
        golden["probability"] = (1 / (1 + np.exp(-(log_odds(golden["probability"]) + shift)))).tolist()
        (files / "golden.json").write_text(json.dumps(golden), encoding="utf-8")

    return changed(world, 1, edit), late


def log_odds(probabilities: Sequence[float] | pd.Series) -> np.ndarray:
    """Of probabilities above 0 and below 1."""
    p = np.asarray(probabilities, dtype="float64")
    return np.log(p) - np.log1p(-p)


def hour(day: date, number: int = 14) -> datetime:
    """That of a day, in UTC."""
    return datetime(day.year, day.month, day.day, number, tzinfo=UTC)


def moment(day: date) -> str:
    """What a batch job takes for now on that day."""
    return f"{day}T15:00:00Z"


def losses(world: World, version: int, champion: int) -> pd.Series:
    """Mean difference in loss by day, challenger minus champion, of entities that both scored."""
    labels = DeltaTable(world.warehouse / "labels").to_pandas(columns=["entity_id", "day", "label"])
    found = []
    for name, number in (("shadow_predictions", version), ("predictions", champion)):
        rows = DeltaTable(world.warehouse / name).to_pandas(columns=["entity_id", "model_version", "probability"])
        rows = rows[rows["model_version"] == number].drop_duplicates("entity_id").merge(labels, on="entity_id")
        p, label = rows["probability"].to_numpy(), rows["label"].to_numpy()
        found.append(rows.assign(loss=USE_CASE.objective.loss(label, p)).set_index("entity_id")[["day", "loss"]])
    both = found[0].join(found[1], rsuffix="_champion", how="inner")
    return (both["loss"] - both["loss_champion"]).groupby(both["day"]).mean()


def read_first(reasons: Sequence[str]) -> list[str]:
    """Reasons without what the clocks of errors, latency and agreement found good; quality before others."""
    told = [one for one in reasons if not one.startswith("GOOD") or one.split()[1] in ("quality:", "calibration:")]
    return sorted(told, key=lambda one: " quality:" not in one)


def write(world: World, versions: Sequence[int], late: float) -> None:
    """The page and its picture."""
    log = decisions(world)
    outcomes, steps = [], []
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, version in zip(figure.subplots(1, 2, sharey=True), versions, strict=True):
        rows = log[(log["kind"] == "rollout") & (log["model_version"] == version)]
        last = rows[rows["outcome"].isin([*map(str, ENDS)])].iloc[-1]
        begin, end = rows["as_of"].iloc[0].date(), last["as_of"].date()
        outcomes.append((version, begin, last["outcome"], end, (end - begin).days, read_first(last["reasons"])[0]))
        kept = rows[~rows["outcome"].isin([str(Action.SERVE)])]
        kept = kept[(kept["outcome"] != "HOLD") | (np.arange(len(kept)) % 7 == 0)]  # a hold a week is enough to read
        for row in kept.to_dict("records"):
            share = json.loads(row["evidence"])["percentage"]
            told = "<br>".join(read_first(row["reasons"]))
            steps.append((row["as_of"].date(), version, row["outcome"], f"{share} %", told))
        by_day = losses(world, version, int(last["other_version"]))
        by_day = by_day[(by_day.index > begin) & (by_day.index < end)]
        axes.axhline(0, color="black", linewidth=0.8)
        axes.bar(by_day.index, by_day, color="tab:gray")
        axes.plot(by_day.index, by_day.expanding().mean(), color="tab:blue", label="mean so far")
        axes.set_title(f"version {version}: {last['outcome']} on {end}")
        axes.tick_params(axis="x", rotation=30)
        axes.legend(frameon=False)
    figure.axes[0].set_ylabel("loss above the champion's")
    page = PAGE.format(
        requests=REQUESTS,
        judged=JUDGED_DAYS,
        storm=STORM,
        late=late,
        outcomes=table(("version", "begun", "rollout", "on", "days", "why"), outcomes),
        steps=table(("day", "version", "step", "share", "reasons"), steps),
    )
    (ROOT / "docs" / "simulated-days.md").write_text(page, encoding="utf-8")
    figure.savefig(ROOT / "docs" / "simulated-days.png", dpi=110)


if __name__ == "__main__":
    main()
