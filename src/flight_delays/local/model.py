"""What a job may say. A key that is neither a field here nor listed as having no effect on a laptop is refused.

Stated differences from a workspace:
- a timeout cannot interrupt a task that runs in this process: timeouts are not enforced;
- attempts are at most MAX_RETRY_WAIT_S apart: nobody else uses the laptop's resources meanwhile;
- serverless auto-optimization's retries, beyond max_retries, do not happen;
- tasks run one after the other, in this process and its Python environment, whatever compute the bundle gives them.
"""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from flight_delays.local.graph import Op, RunIf
from flight_delays.local.references import as_text

MAX_RETRY_WAIT_S = 5.0

JOB_KEYS_WITHOUT_EFFECT = frozenset(
    {
        "budget_policy_id",
        "description",
        "email_notifications",
        "environments",
        "health",
        "job_clusters",
        "lifecycle",
        "max_concurrent_runs",
        "name",
        "notification_settings",
        "performance_target",
        "permissions",
        "queue",
        "run_as",
        "schedule",
        "tags",
        "timeout_seconds",
        "webhook_notifications",
    }
)
TASK_KEYS_WITHOUT_EFFECT = frozenset(
    {
        "description",
        "disable_auto_optimization",
        "email_notifications",
        "environment_key",
        "health",
        "job_cluster_key",
        "libraries",
        "notification_settings",
        "retry_on_timeout",
        "timeout_seconds",
        "webhook_notifications",
    }
)

Text = Annotated[str, BeforeValidator(as_text)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dependency(_Part):
    """One entry of depends_on; `outcome` ("true" or "false") only for a condition task."""

    task_key: Text
    outcome: Annotated[Text, Field(pattern="^(true|false)$")] | None = None


class WheelTask(_Part):
    """Calls an entry point of an installed package."""

    package_name: Text
    entry_point: Text
    parameters: tuple[Text, ...] = ()


class ConditionTask(_Part):
    """Compares two texts, or two numbers."""

    op: Op
    left: Text
    right: Text


class RunJobTask(_Part):
    """Runs another job of the bundle."""

    job_id: Text
    job_parameters: dict[str, Text] = {}


class Task(_Part):
    """One node of a job's graph; exactly one of the three kinds is set."""

    depends_on: tuple[Dependency, ...] = ()
    run_if: RunIf = RunIf.ALL_SUCCESS
    python_wheel_task: WheelTask | None = None
    condition_task: ConditionTask | None = None
    run_job_task: RunJobTask | None = None
    max_retries: int = Field(default=0, ge=0)
    min_retry_interval_millis: int = Field(default=0, ge=0)


class Parameter(_Part):
    """A job parameter."""

    default: Text


class Job(_Part):
    """One job; tasks by task_key, parameters by name."""

    parameters: dict[str, Parameter] = {}
    tasks: dict[str, Task] = Field(min_length=1)
