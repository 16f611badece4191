"""An A/B test for people: both versions by day, what is concluded, and what would change that."""

from rich.console import Console
from rich.table import Table

from flight_delays.core.ab_test import conclude, differences
from flight_delays.core.rollout import Finding, Signal
from flight_delays.core.settings import ABTestStatus, RolloutPolicy
from flight_delays.platform.ab_tests import ab_test_of, arms
from flight_delays.platform.context import Context
from flight_delays.platform.delta import collected
from flight_delays.platform.rollout_log import ROLLOUT, rollout_under_way

_COLUMNS = {
    "requests": "requests",
    "labelled": "with outcome",
    "accuracy": "accuracy",
    "mean_absolute_error": "error",
    "loss": "loss",
    "loss_28_days": "28 days",
    "confidence": "confidence",
    "mean_latency_ms_7_days": "mean ms, 7 days",
    "p95_latency_ms_7_days": "p95 ms, 7 days",
}
_SPLIT = "INVALID sample_ratio: "


def show_ab_test(context: Context, settings: ABTestStatus) -> None:
    """Print it."""
    console, name, now = context.console, settings.model_name, context.as_of
    decisions = context.decisions.find(model_name=name)
    logged = rollout_under_way(decisions)
    if logged is None or logged.state.test_until is None:
        console.print(
            f"No A/B test of {name} is under way; the job rollout begins one with order=ab-test, while a version is "
            "rolled out."
        )
        return
    test, state = ab_test_of(context.use_case, logged, now), logged.state
    console.print(
        f"Version {test.challenger} answers {test.share} % of the requests and version {test.champion} the others, "
        f"from {state.since:%Y-%m-%d %H:%M} to {state.test_until:%Y-%m-%d %H:%M} UTC: {test.days_left} days are left."
    )
    last = [row for row in decisions if row.kind == ROLLOUT][-1].reasons
    lost = [line.removeprefix(_SPLIT) for line in last if line.startswith(_SPLIT)]
    split = Finding(name="sample_ratio", signal=Signal.INVALID, reason=lost[0]) if lost else None
    days = arms(context.tables, context.use_case, test, since=state.since)
    found = conclude(
        test, differences(days, settings.quality_min_label_coverage), RolloutPolicy.quality_confidence, split
    )
    console.print(f"\n{found.sentence}\n{found.changes}\n", soft_wrap=True)
    _show_days(console, context, settings, test.champion, test.challenger)
    console.print("What the rollout found last:")
    for line in last:
        console.print(f"  {line}", soft_wrap=True)


def _show_days(console: Console, context: Context, settings: ABTestStatus, *versions: int) -> None:
    view = context.tables.read("served_performance")
    of_both = view.where((view["model_name"] == settings.model_name) & view["model_version"].isin(*versions))
    rows = collected(of_both.orderBy("day", "model_version"))
    days = sorted({row["day"] for row in rows})[-settings.days :]
    known = [name for name in _COLUMNS if any(row[name] is not None for row in rows)]
    table = Table("day", "version", *(_COLUMNS[name] for name in known))
    for row in rows:
        if row["day"] in days:
            table.add_row(str(row["day"]), str(row["model_version"]), *(_cell(row, name) for name in known))
    console.print(table)


def _cell(row: dict[str, object], name: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if name != "loss_28_days":
        return f"{value:.1f}" if "latency" in name else f"{value:.4f}"
    low, high = row["loss_28_days_low"], row["loss_28_days_high"]
    return f"{value:.4f}" + ("" if low is None else f" [{low:.4f}, {high:.4f}]")
