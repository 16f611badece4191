"""Try the policy on the team's own history, and say how often it errs."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from sklearn.utils.parallel import Parallel, delayed

from flight_delays.core.backtest import History, backtest
from flight_delays.core.errors import UserError
from flight_delays.core.policy_study import (
    HOLDOUTS,
    LIMITS,
    TIMES,
    WORSE,
    Passed,
    RolledOut,
    Study,
    gate_rates,
    loosened,
    recommended,
    rollout_rates,
    spread_of,
    try_ab_test,
    try_gate,
    try_rollout,
    with_margin,
)
from flight_delays.core.settings import Policy, PolicyStudy
from flight_delays.core.use_case import UseCase
from flight_delays.platform.context import Context
from flight_delays.tasks.printing import show
from flight_delays.views.policy_study import GATE, ROLLOUT, conclusions, gate_rows, page, picture, rollout_rows

FILE, PICTURE = "policy-study.md", "policy-study.png"


def run(context: Context, settings: PolicyStudy) -> None:
    """Fit models on the first half of the labelled days, try the policy on the second, and log a page to a run.

    Raises UserError if there are too few days, or if no model can be set apart from another by the policy's margins.
    """
    console, use_case = context.console, context.use_case
    _check(settings)
    end = use_case.holdout(context.as_of, 1).end
    rows = context.labelled.read(as_of=context.as_of, first=None, end=end).rows
    history = backtest(use_case, rows, on_model=lambda what: console.print(f"Fitting {what} ..."))
    study = studied(use_case, history, settings, console)
    for line in conclusions(use_case, study, settings):
        console.print(f"- {line}", soft_wrap=True)
    show(console, "Holdouts that pass the gate (in brackets by the worst model)", GATE, gate_rows(study, settings))
    show(console, "Rollouts (in brackets by the worst model)", ROLLOUT, rollout_rows(study, settings))
    run_id = context.registry.log_study(
        settings.experiment,
        "policy study",
        {FILE: page(use_case, study, settings)},
        {PICTURE: picture(study, settings)},
    )
    console.print(f"{FILE} and {PICTURE}: run {run_id} of experiment {settings.experiment}")


def studied(use_case: UseCase, history: History, settings: PolicyStudy, console: Console) -> Study:
    """All rates, over every core: margins that rise, until one holds that is not below twice the policy's."""
    gate, rollout, n = settings.gate, settings.rollout, settings.replicates
    loss_margins = _margins(history, "loss_margin", gate.loss_margin)
    max_loss_increases = _margins(history, "max_loss_increase", rollout.max_loss_increase)
    holdouts = {*HOLDOUTS, settings.holdout_days}
    lengths = sorted(days for days in holdouts if gate.min_holdout_days <= days <= history.days)
    limits = sorted({*LIMITS, rollout.quality_limit_days})
    every_core = Parallel(n_jobs=-1)

    def judged(policy: Policy, days: Sequence[int]) -> list[Passed]:
        console.print(f"Judging drawn holdouts by a loss_margin of {policy.loss_margin:g} ...")
        found = every_core(delayed(try_gate)(history, name, policy, days, n) for name in history.challengers)
        return [one for several in found for one in several]

    now = judged(gate, [min(settings.holdout_days, history.days)])
    loose, passed, ended = loosened(gate, now), list[Passed](), list[RolledOut]()
    for margin in loss_margins:
        passed += judged(replace(loose, loss_margin=margin), lengths)
        if margin >= 2 * gate.loss_margin and recommended(gate_rates(passed)):
            break
    spread, calibration = spread_of(history), dict[float, float]()
    for margin in max_loss_increases:
        tried = replace(with_margin(rollout, margin, spread), quality_limit_days=limits[-1])
        calibration[margin] = tried.max_calibration_increase
        console.print(f"Rolling out on drawn days by a max_loss_increase of {margin:g} ...")
        ended += every_core(
            delayed(try_rollout)(history, name, tried, use_case.maturity, n) for name in history.challengers
        )
        if margin >= 2 * rollout.max_loss_increase and recommended(rollout_rates(ended, limits)):
            break
    return Study(
        days=history.days,
        rows=len(history.evidence.labels),
        replicates=n,
        spread=spread,
        now=tuple(now),
        limits=loose,
        gate=tuple(gate_rates(passed)),
        rollouts=tuple(rollout_rates(ended, limits)),
        calibration=calibration,
        ab_test=try_ab_test(history, rollout, n),
    )


def _check(settings: PolicyStudy) -> None:
    """Raises UserError for a margin of which no multiple can be tried."""
    margins = {
        "loss_margin": settings.gate.loss_margin,
        "max_loss_increase": settings.rollout.max_loss_increase,
    }
    for name, margin in margins.items():
        if margin <= 0:
            raise UserError(f"{name} {margin:g} can't be tried; set it above 0")


def _margins(history: History, name: str, margin: float) -> list[float]:
    """Multiples of the policy's by which this history's models can be set apart."""
    tried = [times * margin for times in TIMES if WORSE * times * margin <= history.room]
    if not tried:
        raise UserError(
            f"{name} {margin:g} can't be tried: models of this history can be set apart by {history.room:.3g} at most"
        )
    return tried
