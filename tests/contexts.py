"""What a task is given in tests: real adapters where a test has them, and fakes behind the ports."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import databricks
import pandas as pd
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.clock import Clock
from databricks.sdk.config import Config
from rich.console import Console

from flight_delays.core.feature_set import DAY, PREDICTION_TIME
from flight_delays.core.settings import Policy, Promote, RetrainPolicy, RolloutPolicy, Watch
from flight_delays.core.use_case import LABEL_KNOWN_AT, UseCase
from flight_delays.platform.approvals import Approvals
from flight_delays.platform.context import Context
from flight_delays.platform.dataset import Dataset, Labelled
from flight_delays.platform.decision_log import Decision, Decisions
from flight_delays.platform.delta import Tables
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.registry import Registry
from flight_delays.use_case import USE_CASE

POLICY = Policy(
    min_holdout_days=14,
    loss_margin=0.005,
    allow_worse_within_margin=False,
    recent_days=90,
    max_calibration_error=0.3,
    calibration_margin=0.02,
    slice_margin=0.02,
    max_latency_ms=1_000,
    max_size_mb=100,
    allow_uncommitted=False,
    draws=200,
)


def decision(kind: str, name: str, version: int, other: int | None, decision_id: str, as_of: datetime) -> Decision:
    """As a task writes it: of a verdict a PASS, else that it was done."""
    passed = kind == "verdict"
    return Decision(
        decision_id=decision_id,
        kind=kind,
        model_name=name,
        model_version=version,
        other_version=other,
        outcome="PASS" if passed else "DONE",
        reasons=("PASS all",) if passed else ("verdict PASS",),
        as_of=as_of,
    )


ROLLOUT = RolloutPolicy(
    rollout_stages=(0, 1, 5, 25, 50, 100),
    rollout_stage_minutes=60,
    rollout_limit_hours=72,
    rollout_min_requests=500,
    max_error_rate_increase=0.01,
    max_p95_increase_ms=100,
    max_mean_shift=0.05,
    max_changed_share=0.1,
    max_distance=0.1,
    quality_needed_for=100,
    quality_min_days=21,
    quality_limit_days=60,
    quality_min_label_coverage=0.9,
    max_loss_increase=0.01,
    max_calibration_increase=0.02,
    ab_test_share=20,
    ab_test_days=28,
    when_undecided="ask",
)

WATCH = Watch(
    false_alarms_per_month=0.5,
    watch_reference_days=56,
    watch_tolerance=2,
    quality_min_label_coverage=0.9,
    max_decay=0.02,
)

RETRAINING = RetrainPolicy(
    retrain_alarms=3,
    retrain_windows=4,
    retrain_on_drift=False,
    retrain_after_days=28,
    retrain_cooldown_days=14,
    retrains_per_month=2,
)


def promotion(
    model_name: str,
    model_version: int,
    verdict_id: str,
    *,
    online_store: bool = True,
    rollout_stages: tuple[int, ...] = (100,),
    approval_required: bool = False,
) -> Promote:
    """Of a version, to the endpoint of the tests."""
    return Promote(
        model_name=model_name,
        model_version=model_version,
        verdict_id=verdict_id,
        rollout_stages=rollout_stages,
        approval_required=approval_required,
        endpoint="delay",
        serving_workload_size="Small",
        serving_scale_to_zero=True,
        secret_scope="scope",
        online_store=online_store,
    )


class Values(dict[str, str]):
    """Task values, kept."""

    set = dict.__setitem__


@dataclass
class MemoryDecisions:
    """Decisions in memory."""

    rows: list[Decision] = field(default_factory=list)

    def find(self, **values: str | int) -> list[Decision]:
        return [row for row in self.rows if all(getattr(row, name) == value for name, value in values.items())]

    def append(self, decision: Decision) -> bool:
        is_new = not self.find(decision_id=decision.decision_id)
        if is_new:
            self.rows.append(decision)
        return is_new


@dataclass(frozen=True)
class MemoryRows:
    """Labelled rows in memory, times in UTC without a zone."""

    rows: pd.DataFrame

    def read(self, *, as_of: datetime, first: date | None, end: date) -> Dataset:
        rows, now = self.rows, as_of.astimezone(UTC).replace(tzinfo=None)
        known = (rows[PREDICTION_TIME] <= now) & (rows[LABEL_KNOWN_AT] <= now)
        days = (rows[DAY] < end) & (rows[DAY] >= (first or date.min))
        kept = rows[known & days].sort_values([PREDICTION_TIME, "entity_id"], ignore_index=True)
        return Dataset(rows=kept, versions={"in memory": 0})


class Untouchable:
    """An adapter that a task has no business with."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


def make_context(
    *,
    as_of: datetime,
    tables: Tables | None = None,
    registry: Registry | None = None,
    endpoints: Callable[[], Endpoints] = Untouchable,  # type: ignore[assignment]
    approvals: Callable[[], Approvals] = Untouchable,  # type: ignore[assignment]
    labelled: Labelled | None = None,
    decisions: Decisions | None = None,
    use_case: UseCase = USE_CASE,
) -> Context:
    """A context whose console and task values are kept. What is not given is not to be touched."""
    nothing: Any = Untouchable()
    return Context(
        use_case=use_case,
        tables=tables or nothing,
        labelled=labelled or (Labelled(tables) if tables else nothing),
        decisions=decisions or (Decisions(tables) if tables else nothing),
        registry=registry or nothing,
        endpoints=endpoints,
        approvals=approvals,
        task_values=Values(),
        console=Console(file=io.StringIO(), width=200),
        clock=lambda: as_of,
        as_of=as_of,
    )


def printed(context: Context) -> str:
    """All that a task has printed."""
    assert isinstance(context.console.file, io.StringIO)
    return context.console.file.getvalue()


@dataclass
class Time(Clock):
    """Passes only while somebody sleeps, then at once, or nearly so: what runs beside it gets a turn."""

    now: float = 0.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        time.sleep(0.005)


def client_at(address: str, clock: Clock, **config: Any) -> WorkspaceClient:
    """Of a workspace, whatever is set for another one; it has patience for 5 seconds of its clock."""
    signed_in = {"host": address, "token": "any", "auth_type": "pat", "profile": ""}
    return WorkspaceClient(config=Config(**signed_in, clock=clock, retry_timeout_seconds=5, **config))


def have_databricks_connect(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str = "") -> None:
    """Make this process one with Databricks Connect, whose `code` is put into `folder`.

    The real one cannot be installed beside local Spark.
    """
    folder.joinpath("packages", "connect").mkdir(parents=True)
    folder.joinpath("packages", "connect", "__init__.py").write_text(code)
    monkeypatch.setattr(databricks, "__path__", [*databricks.__path__, str(folder / "packages")])
