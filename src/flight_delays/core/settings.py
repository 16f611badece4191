"""Every setting, declared once: its type, range and meaning. Frozen values, validated when they are created.

The command line, the parameters of the bundle's tasks, the check of its variables and docs/settings.md derive from
this. A default that a team changes is the value of a variable in databricks.yml.
"""

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from flight_delays.core.errors import UserError

T = TypeVar("T")

AVAILABLE_NOW = "available_now"
ARGUMENT = "argument"  # marks a setting that the command line takes by position


def moment_of(value: object) -> datetime:
    """A time in UTC from a time or an ISO 8601 text; UTC if it has no offset. Raises ValueError."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("should be an ISO 8601 time like 2014-01-02T00:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _day(value: object) -> date | None:
    try:
        return value if isinstance(value, date) else date.fromisoformat(str(value)) if value else None
    except ValueError:
        raise ValueError("should be a date like 2013-01-31, or empty") from None


def _number(value: object) -> object:
    return None if value == "" else value


def _truth(value: object) -> bool:
    if value not in (True, False, "true", "false"):
        raise ValueError("should be true or false")
    return value in (True, "true")


def _schema(text: str) -> str:
    if text.count(".") != 1 or not all(text.split(".")):
        raise ValueError("should be <catalog>.<schema>; `databricks bundle summary` names yours")
    return text


def _trigger(text: str) -> str:
    if text != AVAILABLE_NOW and not re.fullmatch(r"\d+ (millisecond|second|minute|hour)s?", text):
        raise ValueError("should be available_now, or a time like 10 seconds")
    return text


def _stages(value: object) -> tuple[int, ...]:
    try:
        stages = tuple(int(part) for part in str(value).split(",")) if not isinstance(value, tuple) else value
    except ValueError:
        stages = ()
    if not stages or list(stages) != sorted({*stages}) or stages[0] < 0 or stages[-1] != 100:
        raise ValueError("should be rising whole percentages that end with 100, like 0,1,5,25,50,100")
    return stages


Moment = Annotated[datetime, BeforeValidator(moment_of)]
Day = Annotated[date | None, BeforeValidator(_day)]
Version = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_number)]
Truth = Annotated[bool, BeforeValidator(_truth)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
AtLeast0 = Annotated[Number, Field(ge=0)]
Above0 = Annotated[Number, Field(gt=0)]
Share = Annotated[int, Field(ge=0, le=100)]
Text = Annotated[str, Field(min_length=1)]
Schema = Annotated[str, AfterValidator(_schema)]
Stages = Annotated[tuple[int, ...], BeforeValidator(_stages)]
Trigger = Annotated[str, AfterValidator(_trigger)]

RawSchema = Annotated[Schema, Field(description="Schema to read raw tables from: <catalog>.<schema>.")]
ModelName = Annotated[Text, Field(description="Registered model: <catalog>.<schema>.<name>.")]
ModelVersion = Annotated[Count, Field(description="Version number.")]
Experiment = Annotated[Text, Field(description="MLflow experiment.")]
Endpoint = Annotated[Text, Field(description="Serving endpoint.")]
Checkpoint = Annotated[Text, Field(description="Folder of the stream's checkpoint.")]
OnlineStore = Annotated[
    Truth,
    Field(description="Whether jobs fill the online store and the endpoint asks it; see docs/operate.md first."),
]
StoreAddress = Annotated[
    str | None, Field(description="Address of the online store; default: FLIGHT_DELAYS_ONLINE_STORE.")
]
HoldoutDays = Annotated[
    Count, Field(description="Length of the holdout, days: the last whole ones before as_of, never trained on.")
]
PayloadTable = Annotated[Text, Field(description="Inference table: <catalog>.<schema>.<table>.")]
ServedEntitiesTable = Annotated[
    Text, Field(description="System table that maps ids of served entities to model versions; needs SELECT.")
]
RolloutStages = Annotated[
    Stages,
    Field(description="Policy. A challenger's shares of the requests, %, one after the other; 100 alone: no rollout."),
]
ApprovalRequired = Annotated[
    Truth,
    Field(
        description="Policy. Whether a person has to approve a version before its first traffic; see docs/operate.md "
        "first."
    ),
]
LabelCoverage = Annotated[
    Above0,
    Field(le=1, description="Policy. A day counts if at least this share of its rows has a label, above 0, at most 1."),
]
MaxLag = Annotated[AtLeast0, Field(description="Policy. Maximum time from event to prediction, s.")]


@dataclass(frozen=True, kw_only=True)
class InSchema:
    """Where a task works."""

    schema: Schema = Field(description="Schema to write to: <catalog>.<schema>.")


@dataclass(frozen=True, kw_only=True)
class AsOf(InSchema):
    """Where, and as of when."""

    as_of: Moment = Field(
        description="The current time: nothing that became known later is used. UTC unless it has an offset."
    )


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When a version may serve. A value with a default here is no option: the error rates in docs/ hold for it."""

    min_holdout_days: Count = Field(description="Policy. Minimum unseen days; with fewer the verdict is INCONCLUSIVE.")
    loss_margin: AtLeast0 = Field(description="Policy. How much worse in loss than the champion a challenger may be.")
    allow_worse_within_margin: Truth = Field(
        description="Policy. Whether a challenger that is shown to be worse, but by at most loss_margin, may serve."
    )
    recent_days: Annotated[int, Field(ge=0)] = Field(
        description="Policy. A challenger is also compared with the versions that served in this many days before "
        "as_of; 0: with the champion alone."
    )
    max_calibration_error: AtLeast0 = Field(description="Policy. The largest expected calibration error that passes.")
    calibration_margin: AtLeast0 = Field(
        description="Policy. How much above the champion's calibration error it may be."
    )
    slice_margin: AtLeast0 = Field(description="Policy. A slice shown to be worse in loss by more than this fails.")
    max_latency_ms: Above0 = Field(description="Policy. Maximum median latency of one request, ms.")
    max_size_mb: Above0 = Field(description="Policy. Maximum size of the model's files, MB.")
    allow_uncommitted: Truth = Field(description="Policy. Whether a version made of uncommitted code may serve.")
    min_slice_days: Count = 10  # with fewer a slice is not measured
    min_slice_rows: Count = 200
    min_gain: Above0 = 0.001  # in loss over the constant baseline
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = 0.95  # of each one-sided bound
    draws: Count = 2_000  # bootstrap resamples
    seed: int = 20130101


@dataclass(frozen=True, kw_only=True)
class RolloutPolicy:
    """How a version that passed the gate gets from none of the requests to all of them."""

    rollout_stages: RolloutStages
    rollout_stage_minutes: Count = Field(description="Policy. Minimum time in each stage, minutes.")
    rollout_limit_hours: Count = Field(
        description="Policy. A stage that stays undecided for longer ends as when_undecided says, hours."
    )
    rollout_min_requests: Count = Field(description="Policy. Minimum requests of each version before a stage is left.")
    max_error_rate_increase: AtLeast0 = Field(
        le=1, description="Policy. How much above the champion's the challenger's error rate may be, 0 to 1."
    )
    max_p95_increase_ms: AtLeast0 = Field(
        description="Policy. How much above the champion's the challenger's p95 latency may be, ms."
    )
    max_mean_shift: AtLeast0 = Field(description="Policy. How far the two versions' mean forecasts may be apart.")
    max_changed_share: AtLeast0 = Field(le=1, description="Policy. Largest share of decisions that differ, 0 to 1.")
    max_distance: AtLeast0 = Field(
        le=1, description="Policy. Largest Kolmogorov-Smirnov distance between the two versions' forecasts, 0 to 1."
    )
    quality_needed_for: Share = Field(
        description="Policy. From which share of the requests on, %, a challenger's quality has to be known; 0: for "
        "none."
    )
    quality_min_days: Count = Field(description="Policy. Minimum days with labels before quality is called good.")
    quality_limit_days: Count = Field(
        description="Policy. A rollout whose quality stays undecided for longer ends as when_undecided says, days."
    )
    quality_min_label_coverage: LabelCoverage
    max_loss_increase: Number = Field(
        description="Policy. How much above the champion's the challenger's loss may be; below 0: how much better it "
        "has to be."
    )
    max_calibration_increase: AtLeast0 = Field(
        description="Policy. How much further than the champion's a day's mean forecast may be from the mean outcome."
    )
    ab_test_share: Annotated[int, Field(ge=1, le=99)] = Field(
        description="Policy. The challenger's share of the requests in an A/B test, %."
    )
    ab_test_days: Count = Field(description="Policy. How long an A/B test lasts, days.")
    when_undecided: Literal["ask", "roll_back"] = Field(
        description="Policy. What becomes of a rollout that stays undecided for too long: ask a person, or roll_back."
    )
    quality_confidence: Annotated[Number, Field(gt=0.5, lt=1)] = 0.95  # of each bound, on all days together
    rollout_confidence: Annotated[Number, Field(gt=0.5, lt=1)] = 0.999  # of each one-sided bound, at each look
    sample_ratio_p: Annotated[Number, Field(gt=0, lt=1)] = 0.001  # below it the split is not as configured


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What the monitor calls an alarm. A value with a default is no option: the rates in docs/monitoring.md hold."""

    false_alarms_per_month: Above0 = Field(
        description="Policy. How many false alarms of drift a month are accepted, over all columns, while nothing "
        "changes."
    )
    watch_reference_days: Count = Field(description="Policy. How many days before a window it is compared with.")
    watch_tolerance: Above0 = Field(
        description="Policy. How far beyond the range of the reference days a day's mean or share may be, in widths of "
        "that range."
    )
    quality_min_label_coverage: LabelCoverage
    max_decay: Above0 = Field(
        description="Policy. How much higher a week's loss may be than the forecasts themselves let expect."
    )
    windows: tuple[Count, ...] = (7, 28)  # days; whole weeks, so that weekdays are the same as in the reference
    min_reference_days: Count = 28
    min_rows: Count = 5  # of a day that counts
    block_days: Count = 3  # days that resemble each other are drawn together
    permutations: Count = 999
    quiet_days: Count = 7  # without an alarm, before an incident is over
    seed: int = 20130101


@dataclass(frozen=True, kw_only=True)
class RetrainPolicy:
    """When a new version is trained."""

    retrain_alarms: Count = Field(
        description="Policy. A new version is trained if this many of the last retrain_windows weeks raised an alarm."
    )
    retrain_windows: Count = Field(description="Policy. How many weeks count for retrain_alarms.")
    retrain_on_drift: Truth = Field(
        description="Policy. Whether a week whose data drifted counts as one with an alarm, beside one of decay."
    )
    retrain_after_days: Annotated[int, Field(ge=0)] = Field(
        description="Policy. A new version is trained at the latest so many days after the last one; 0: no limit."
    )
    retrain_cooldown_days: Annotated[int, Field(ge=0)] = Field(
        description="Policy. Minimum time between two trainings, days."
    )
    retrains_per_month: Count = Field(description="Policy. Maximum number of trainings in 30 days.")

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.retrain_alarms > self.retrain_windows:
            raise ValueError(
                f"retrain_alarms {self.retrain_alarms} is more than retrain_windows {self.retrain_windows}; lower it"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a service must keep under load."""

    max_p99_ms: Above0 = Field(description="Policy. Maximum p99 latency under load, ms.")
    max_error_rate: AtLeast0 = Field(le=1, description="Policy. Maximum error rate under load, 0 to 1.")
    min_requests_per_second: AtLeast0 = Field(description="Policy. Minimum throughput under load, requests/s.")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Create the tables and views that do not exist yet."""


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """Land raw tables from the sources; malformed rows go to raw_rejects."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Build features from what was known at each prediction time."""

    raw_schema: RawSchema


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Collect labels: the outcomes that are known."""

    raw_schema: RawSchema


@dataclass(frozen=True, kw_only=True)
class Publish:
    """Bring features to the online store, if there is one. Sets published."""

    online_store: OnlineStore


@dataclass(frozen=True, kw_only=True)
class Train:
    """Fit a model and register it. Sets model_name and model_version."""

    model_name: ModelName
    experiment: Experiment
    holdout_days: HoldoutDays
    trials: Count = Field(description="How many models the search tries; the first is the use case's own setting.")
    git_commit: str = Field(description="Commit that was deployed.")


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Judge a version on held-out days. Sets verdict and verdict_id."""

    model_name: ModelName
    model_version: ModelVersion
    holdout_days: HoldoutDays
    policy: Policy


@dataclass(frozen=True, kw_only=True)
class Approval:
    """Go on only if a person has approved the version, or this target requires no approval. Sets approval."""

    model_name: ModelName
    model_version: ModelVersion
    approval_required: ApprovalRequired


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What serves a model, and how."""

    model_name: ModelName
    endpoint: Endpoint
    serving_workload_size: Literal["Small", "Medium", "Large"] = Field(description="Compute size of a served version.")
    serving_scale_to_zero: Truth = Field(
        description="Whether an idle endpoint scales to zero; the next request waits for its start."
    )
    secret_scope: Text = Field(description="Secret scope that holds the online store's address.")
    online_store: OnlineStore


@dataclass(frozen=True, kw_only=True)
class Promote(Serving):
    """Make a version the champion and serve it, if its verdict is PASS."""

    model_version: ModelVersion
    verdict_id: Text = Field(description="Id of the verdict that allows the promotion.")
    rollout_stages: RolloutStages
    approval_required: ApprovalRequired


@dataclass(frozen=True, kw_only=True)
class Rollout(Serving):
    """Take the next step of a rollout: hold, advance, promote, roll back or ask. Sets rollout."""

    order: Literal["", "pause", "resume", "promote", "adopt", "ab-test", "stop"] = Field(
        default="",
        description="What a person decides instead: pause, resume, promote, stop (roll back), begin an ab-test, or "
        "adopt what the endpoint serves; empty: nothing.",
    )
    version: Version = Field(
        default=None, description="Version to promote while none is rolled out, past the gate; empty: the challenger."
    )
    reason: str = Field(default="", description="Why, for whoever reads the log of decisions; needed for an order.")
    payload_table: PayloadTable
    served_entities_table: ServedEntitiesTable
    approval_required: ApprovalRequired
    policy: RolloutPolicy

    @model_validator(mode="after")
    def _said_why(self) -> Self:
        if self.order and not self.reason.strip():
            raise ValueError(f"reason is missing; say why to {self.order}")
        if self.version is not None and self.order != "promote":
            raise ValueError("version goes with order promote only")
        return self


@dataclass(frozen=True, kw_only=True)
class Rollback(Serving):
    """Make an earlier champion the champion again, and serve it. Sets champion."""

    to_version: Version = Field(default=None, description="Version to go back to; empty: the one before the champion.")
    reason: Text = Field(description="Why, for whoever reads the log of decisions.")


@dataclass(frozen=True, kw_only=True)
class ScoreBatch:
    """Score what the champion has not scored yet."""

    model_name: ModelName
    online_store: OnlineStore
    first_date: Day = Field(default=None, description="First day to score, 2013-01-31; empty: no limit.")
    last_date: Day = Field(default=None, description="Last day to score; empty: no limit.")
    full: bool = Field(default=False, description="Consider all rows, not only those since the last run.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first_date and self.last_date and self.first_date > self.last_date:
            raise ValueError(f"first_date {self.first_date} is after last_date {self.last_date}; swap them")
        return self

    @property
    def all_days(self) -> bool:
        """Whether there is no limit."""
        return self.first_date is None and self.last_date is None


@dataclass(frozen=True, kw_only=True)
class ScoreShadow:
    """Score beside the champion what the challenger has not scored yet, if there is one; nothing is published."""

    model_name: ModelName


@dataclass(frozen=True, kw_only=True)
class ScoreStream:
    """Score entities as their events come in. Sets health."""

    raw_schema: RawSchema
    model_name: ModelName
    checkpoint: Checkpoint
    stream_watermark_minutes: Count = Field(
        description="Maximum lateness: how much older than the newest event an event may be, minutes."
    )
    stream_trigger: Trigger = Field(
        description="available_now: process what has come in, then end. An interval like 10 seconds: run until "
        "stopped; needs compute job_cluster and stream_timeout_seconds 0."
    )
    max_lag_seconds: MaxLag
    online_store: OnlineStore
    land_every: Count = Field(
        default=200, description="A continuous stream lands raw tables after this many micro-batches."
    )
    max_bytes: Text = Field(default="16m", description="Maximum size of one micro-batch.")

    @property
    def delay(self) -> timedelta:
        """How far behind the newest event the watermark is."""
        return timedelta(minutes=self.stream_watermark_minutes)


@dataclass(frozen=True, kw_only=True)
class ScoreServed:
    """Add the endpoint's answers to predictions. Sets served."""

    model_name: ModelName
    payload_table: PayloadTable
    served_entities_table: ServedEntitiesTable


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Measure each version's forecasts by day and slice, as far as outcomes are known. Sets days."""

    model_name: ModelName


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Look at the data and at the champion's forecasts, as far as it was not done. Sets alarms."""

    model_name: ModelName
    watch: Watch


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """Decide whether a new version is needed, and open or close incidents. Sets retraining and incidents."""

    model_name: ModelName
    watch: Watch
    policy: RetrainPolicy


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Compare the endpoint's answers with the batch's. Sets compared."""

    model_name: ModelName
    endpoint: Endpoint
    online_store: OnlineStore


@dataclass(frozen=True, kw_only=True)
class LoadTest:
    """Put an endpoint under load with the newest rows. Sets requests_per_second and p99_ms."""

    endpoint: Endpoint
    online_store: OnlineStore
    load_test_connections: Count = Field(description="How many callers send at the same time.")
    load_test_seconds: Count = Field(description="How long a load test takes, s.")
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class PolicyStudy:
    """Try gate and rollout on the history's own days, drawn again: how often they err, and what to set instead."""

    experiment: Experiment
    holdout_days: HoldoutDays
    replicates: Count = Field(default=100, description="Holdouts, and rollouts, of each challenger and margin.")
    gate: Policy
    rollout: RolloutPolicy


# What a job may run, as commands, and what each takes.
TASKS: Mapping[str, tuple[type[InSchema], type]] = {
    "tables": (InSchema, Tables),
    "ingest": (AsOf, Ingest),
    "features": (AsOf, Features),
    "labels": (AsOf, Labels),
    "publish": (AsOf, Publish),
    "train": (AsOf, Train),
    "judge": (AsOf, Judge),
    "approval": (AsOf, Approval),
    "promote": (AsOf, Promote),
    "rollout": (AsOf, Rollout),
    "rollback": (AsOf, Rollback),
    "score-batch": (AsOf, ScoreBatch),
    "score-shadow": (AsOf, ScoreShadow),
    "score-stream": (InSchema, ScoreStream),
    "score-served": (AsOf, ScoreServed),
    "performance": (AsOf, Performance),
    "signals": (AsOf, Signals),
    "retraining": (AsOf, Retraining),
    "parity": (AsOf, Parity),
    "load-test": (AsOf, LoadTest),
    "policy-study": (AsOf, PolicyStudy),
}


@dataclass(frozen=True, kw_only=True)
class Status:
    """Show which version serves, since when and why; exit code 1 if endpoint or aliases are not as decided."""

    model_name: ModelName
    endpoint: Endpoint
    last: Count = Field(default=5, description="How many decisions to show.")


@dataclass(frozen=True, kw_only=True)
class ProfileTables:
    """Let Databricks profile features and predictions each day, beside this project's own signals; costs compute."""


@dataclass(frozen=True, kw_only=True)
class Incidents:
    """Show the open incidents, or acknowledge one: what changed, since when, and what to do."""

    model_name: ModelName
    acknowledge: str = Field(default="", description="Id of the incident that you look after, or how it begins.")
    reason: str = Field(default="", description="What you do about it; needed to acknowledge.")

    @model_validator(mode="after")
    def _said_why(self) -> Self:
        if self.acknowledge and not self.reason.strip():
            raise ValueError("reason is missing; say what you do about it")
        return self


@dataclass(frozen=True, kw_only=True)
class ABTestStatus:
    """Show the A/B test under way: both versions by day, what is concluded, and what would change that."""

    model_name: ModelName
    days: Count = Field(default=14, description="How many days to show.")
    quality_min_label_coverage: LabelCoverage


@dataclass(frozen=True, kw_only=True)
class Approve:
    """Approve a version, or revoke the approval: sets or deletes its tag, which only approvers may."""

    model_name: ModelName
    model_version: ModelVersion
    revoke: bool = Field(default=False, description="Delete the tag instead.")


@dataclass(frozen=True, kw_only=True)
class Approvers:
    """Show who may approve; exit code 1 if nobody can, if the jobs can themselves, or if not all is known."""

    runs_as: str = Field(
        default="",
        description="Whom the jobs run as: an application id, or a user's name; empty: whoever asks.",
    )


@dataclass(frozen=True, kw_only=True)
class StreamStatus:
    """Show the last micro-batches and predictions; exit code 1 unless the stream is healthy."""

    checkpoint: Checkpoint
    max_lag_seconds: MaxLag
    last: Count = Field(default=10, description="How many micro-batches to show.")


@dataclass(frozen=True, kw_only=True)
class StreamStop:
    """Ask the running stream to end after the micro-batch under way."""

    checkpoint: Checkpoint


@dataclass(frozen=True, kw_only=True)
class StreamReset:
    """Delete the checkpoint: the next start reads all events again, and scores what was never scored."""

    checkpoint: Checkpoint


@dataclass(frozen=True, kw_only=True)
class CheckUseCase:
    """Verify the use case on a sample of what it delivers, in seconds: each finding is a line with its fix."""

    as_of: Moment | None = Field(default=None, description="What counts as now; default: now.")


@dataclass(frozen=True, kw_only=True)
class Try:
    """Fit the current code and compare it with the champion, within a minute; registers nothing."""

    raw_tables: Text = Field(description="Schema of the raw tables, or a folder of Delta tables.")
    model_name: ModelName
    holdout_days: HoldoutDays
    as_of: Moment = Field(description="What counts as now.")
    folder: Path = Field(description="Where to keep the history and plots.")
    note: str = Field(default="", description="What is tried, for the history.")
    own_parameters: bool = Field(default=False, description="Use the use case's parameters instead of the champion's.")


@dataclass(frozen=True, kw_only=True)
class ModelDiff:
    """Say whether a version is better than the champion, no different or worse; exit code 1 if it is worse."""

    raw_tables: Text = Field(description="Schema of the raw tables, or a folder of Delta tables.")
    model_name: ModelName
    model_version: Version = Field(default=None, description="Version to compare; empty: the newest.")
    as_of: Moment = Field(description="What counts as now.")
    file: Path = Field(description="Where to write it, in Markdown.")


@dataclass(frozen=True, kw_only=True)
class Image:
    """Check a version and write all that its container image is built from, with an SBOM."""

    model_name: ModelName
    model_version: ModelVersion
    base_image: Text = Field(description="Image to start from, by its digest: python:<3.x>-slim...@sha256:<digest>.")
    folder: Path = Field(description="Where to write the build context; must not exist.")
    wheel: Path | None = Field(default=None, description="This project's wheel; default: the one in dist/.")
    dockerfile: Path = Field(default=Path("deploy/image/Dockerfile"), description="Dockerfile to fill in.")
    requirements: Path = Field(default=Path("requirements/image.txt"), description="Locked packages of the image.")


@dataclass(frozen=True, kw_only=True)
class ImageMade:
    """Note on a version which image serves it; a rollout on Kubernetes or Azure ML reads it."""

    model_name: ModelName
    model_version: ModelVersion
    image: Text = Field(description="The image in its registry: <registry>/<repository>@sha256:<digest>.")


@dataclass(frozen=True, kw_only=True)
class Query:
    """Ask a serving endpoint for a forecast."""

    endpoint: Endpoint
    entity: Annotated[str | None, ARGUMENT] = Field(
        default=None, description="Its columns as JSON or, with an online store, its id; default: the newest there."
    )
    store_address: StoreAddress = None


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """Look up an entity's newest precomputed prediction."""

    entity_id: Annotated[Text, ARGUMENT] = Field(description="An entity's id.")
    store_address: StoreAddress = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Let a staging endpoint serve a version alone, and compare its answers with the recorded ones."""

    endpoint: Annotated[Text, Field(description="Its address, like azureml://...: no endpoint of the workspace.")]
    model_name: ModelName
    model_version: ModelVersion


@dataclass(frozen=True, kw_only=True)
class AzuremlRegister:
    """Register a version's files as a model in a workspace of Azure ML, tagged with where they come from."""

    model_name: ModelName
    model_version: ModelVersion
    workspace: Text = Field(description="Its address: azureml://<subscription>/<resource group>/<workspace>.")


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Explain a prediction and recompute it; exit code 1 unless features and forecast are the same, bit for bit."""

    prediction_id: Annotated[Text, ARGUMENT] = Field(description="A prediction's id, as in table predictions.")
    raw_schema: RawSchema
    payload_table: PayloadTable
    rows: Count = Field(default=3, description="How many raw rows to show of those that were counted together.")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a page to look at: what serves and why, incidents, performance, drift, decisions, data, and what ran."""

    raw_schema: RawSchema
    model_name: ModelName
    file: Path = Field(description="Where to write the page.")


@dataclass(frozen=True, kw_only=True)
class DriftPage:
    """Write a page by Evidently that compares the newest days' features with those before; it decides nothing."""

    days: Count = Field(default=7, description="Length of the period that is looked at, days.")
    reference_days: Count = Field(default=56, description="Length of the period before it, days.")
    rows: Count = Field(default=20_000, description="The most rows to compare of each period.")
    file: Path = Field(description="Where to write the page.")


def option_of(name: str) -> str:
    """A setting's name on the command line."""
    return f"--{name.replace('_', '-')}"


def settings_of(*declared: type) -> dict[str, FieldInfo]:
    """Settings by name. A nested policy's settings are included, except those with a default."""
    found: dict[str, FieldInfo] = {}
    for name, setting in (each for one in declared for each in _fields(one).items()):
        if isinstance(setting.annotation, type) and is_dataclass(setting.annotation):
            nested = settings_of(setting.annotation)
            found |= {name: each for name, each in nested.items() if each.is_required()}
        else:
            found[name] = setting
    return found


def value_of(setting: FieldInfo, given: object) -> object:
    """`given` as the setting's type. Raises ValueError that says how it should be."""
    kind: Any = Annotated[(setting.annotation, Field(), *setting.metadata)]
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        raise ValueError(_message(error)) from None


def made(declared: type[T], given: Mapping[str, object]) -> T:
    """Settings from values by name; other names are ignored. Raises UserError for values out of range."""
    values: dict[str, object] = {}
    for name, setting in _fields(declared).items():
        if isinstance(setting.annotation, type) and is_dataclass(setting.annotation):
            values[name] = made(setting.annotation, given)
        elif name in given:
            values[name] = given[name]
    try:
        return declared(**values)
    except ValidationError as error:
        first = error.errors()[0]
        named = "".join(f"{name} is {first['input']!r}: it " for name in first["loc"])
        raise UserError(named + _message(error)) from None


def _fields(declared: type) -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = declared.__pydantic_fields__  # type: ignore[attr-defined]
    return found


def _message(error: ValidationError) -> str:
    return re.sub("^(Value error, |Input (?=should)|String (?=should))", "", error.errors()[0]["msg"])
