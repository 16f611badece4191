"""What a job may say. A key that is neither a field here nor listed as having no effect on a laptop is refused.

Stated differences from a workspace:
- a timeout cannot interrupt a task that runs in this process: timeouts are not enforced;
- attempts are at most MAX_RETRY_WAIT_S apart: nobody else uses the laptop's resources meanwhile;
- serverless auto-optimization's retries, beyond max_retries, do not happen;
- tasks run one after the other, in this Python environment, whatever compute, warehouse and libraries the bundle gives
  them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bundle_laptop.graph import Graph, Op, RunIf
from bundle_laptop.references import as_text

MAX_RETRY_WAIT_S = 5.0
_OF_BOTH = "description email_notifications health notification_settings timeout_seconds webhook_notifications"
JOB_KEYS_WITHOUT_EFFECT = frozenset(
    f"{_OF_BOTH} budget_policy_id continuous environments job_clusters lifecycle max_concurrent_runs "
    "performance_target permissions queue run_as schedule tags trigger".split()
)
TASK_KEYS_WITHOUT_EFFECT = frozenset(
    f"{_OF_BOTH} compute disable_auto_optimization environment_key existing_cluster_id job_cluster_key libraries "
    "new_cluster retry_on_timeout".split()
)
KINDS = (
    *("python_wheel_task", "spark_python_task", "notebook_task"),
    *("condition_task", "run_job_task", "for_each_task", "alert_task"),
)

Text = Annotated[str, BeforeValidator(as_text)]


class Part(BaseModel):
    """Of a job or another resource; a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Dependency(Part):
    """One entry of depends_on; `outcome` ("true" or "false") only for a condition task."""

    task_key: Text
    outcome: Annotated[Text, Field(pattern="^(true|false)$")] | None = None


class WheelTask(Part):
    """Calls an entry point of an installed package."""

    package_name: Text
    entry_point: Text
    parameters: tuple[Text, ...] = ()
    named_parameters: dict[str, Text] = {}

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line; a named parameter is --name=value, as Databricks hands it over."""
        return (*self.parameters, *(f"--{name}={value}" for name, value in self.named_parameters.items()))


class PythonTask(Part):
    """Runs a file of the bundle."""

    python_file: Text
    parameters: tuple[Text, ...] = ()
    source: Literal["WORKSPACE"] = "WORKSPACE"


class NotebookTask(Part):
    """Runs a notebook of the bundle; its widgets are the base parameters and the job's."""

    notebook_path: Text
    base_parameters: dict[str, Text] = {}
    source: Literal["WORKSPACE"] = "WORKSPACE"


class ConditionTask(Part):
    """Compares two texts, or two numbers."""

    op: Op
    left: Text
    right: Text


class RunJobTask(Part):
    """Runs another job of the bundle."""

    job_id: Text
    job_parameters: dict[str, Text] = {}


class Subscriber(Part):
    """Whom an alert tells: a user, or a notification destination."""

    user_name: Text = ""  # as a task has it
    user_email: Text = ""  # as an alert has it
    destination_id: Text = ""

    def __str__(self) -> str:
        return self.user_name or self.user_email or f"destination {self.destination_id}"


class AlertTask(Part):
    """Evaluates an alert of the bundle; without subscribers those of the alert are told."""

    alert_id: Text
    subscribers: tuple[Subscriber, ...] = ()


class ForEachTask(Part):
    """Runs a task once for each of the inputs, a list as JSON; one after the other, whatever the concurrency."""

    inputs: Text
    concurrency: int = 1
    task: "Task"


class Task(Part):
    """One node of a job's graph; exactly one of KINDS is set."""

    task_key: Text = ""  # of a for_each_task's own task
    depends_on: tuple[Dependency, ...] = ()
    run_if: RunIf = RunIf.ALL_SUCCESS
    python_wheel_task: WheelTask | None = None
    spark_python_task: PythonTask | None = None
    notebook_task: NotebookTask | None = None
    condition_task: ConditionTask | None = None
    run_job_task: RunJobTask | None = None
    for_each_task: ForEachTask | None = None
    alert_task: AlertTask | None = None
    max_retries: int = Field(default=0, ge=0)
    min_retry_interval_millis: int = Field(default=0, ge=0)

    @property
    def runs_code(self) -> bool:
        """Whether it can set task values."""
        return bool(self.python_wheel_task or self.spark_python_task or self.notebook_task)


class Parameter(Part):
    """A job parameter."""

    default: Text


class Job(Part):
    """One job; tasks by task_key, parameters by name."""

    name: Text = ""
    parameters: dict[str, Parameter] = {}
    tasks: dict[str, Task] = Field(min_length=1)

    @property
    def alerts(self) -> list[str]:
        """Keys of the alerts that its tasks evaluate, also each time of a loop."""
        called = [task.for_each_task.task if task.for_each_task else task for task in self.tasks.values()]
        return [task.alert_task.alert_id for task in called if task.alert_task]

    @property
    def graph(self) -> Graph:
        """Task to the tasks that it depends on."""
        return {key: [other.task_key for other in task.depends_on] for key, task in self.tasks.items()}
