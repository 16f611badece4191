"""What all jobs share, filled in where a job's file is silent: compute, limits, retries, notifications, tags, options.

A task without a type of its own is the command of its name, run by the wheel. Each of its options (core/settings.py)
is the job's parameter of that name, else what SOURCES says, else the bundle's variable of that name.
"""

from dataclasses import replace

from databricks.bundles.core import Bundle, Variable, job_mutator
from databricks.bundles.jobs import (
    Job,
    JobCluster,
    JobEmailNotifications,
    JobEnvironment,
    JobsHealthMetric,
    JobsHealthOperator,
    JobsHealthRule,
    JobsHealthRules,
    Library,
    PythonWheelTask,
    QueueSettings,
    Task,
)
from version import uncommitted

from flight_delays.core.settings import TASKS, option_of, settings_of

SOURCES = {
    "checkpoint": "${resources.volumes.checkpoints.volume_path}/score_stream",
    "endpoint": "${resources.model_serving_endpoints.delay_endpoint.name}",
    "experiment": "${resources.experiments.delay_experiment.name}",
    "git_commit": "${bundle.git.commit}" + uncommitted(),
    "model_name": "${resources.registered_models.delay_model.id}",
    "payload_table": "${resources.schemas.flights.id}.delay_payload",
    "raw_schema": "${var.raw_catalog}.${var.raw_schema}",
    "schema": "${resources.schemas.flights.id}",
    "secret_scope": "${resources.secret_scopes.delay_secrets.name}",
    "verdict_id": "{{tasks.judge.values.verdict_id}}",
}
PERSON = Variable(path="var.notification_email", type=str)
JOB_TIMEOUT_S, TASK_TIMEOUT_S = 7_200, 3_600


@job_mutator
def complete(bundle: Bundle, job: Job) -> Job:
    """The job as it is deployed. Raises ValueError for an option that nothing gives a value."""
    timeout_s = JOB_TIMEOUT_S if job.timeout_seconds is None else job.timeout_seconds
    slow = JobsHealthRule(
        metric=JobsHealthMetric.RUN_DURATION_SECONDS, op=JobsHealthOperator.GREATER_THAN, value=int(str(timeout_s)) // 2
    )
    return replace(
        job,
        tags={"project": "flight_delays", "target": bundle.target, **job.tags},
        max_concurrent_runs=1,
        queue=job.queue or QueueSettings(enabled=True),
        timeout_seconds=timeout_s,
        health=job.health or JobsHealthRules(rules=[slow]),
        email_notifications=job.email_notifications
        or JobEmailNotifications(on_failure=[PERSON], on_duration_warning_threshold_exceeded=[PERSON]),
        environments=Variable(path="var.compute.environments", type=list[JobEnvironment]),
        job_clusters=Variable(path="var.compute.job_clusters", type=list[JobCluster]),
        tasks=[_completed(bundle, job, task) for task in job.tasks],
    )


def _completed(bundle: Bundle, job: Job, task: Task) -> Task:
    kinds = {name for name, value in vars(task).items() if name.endswith("_task") and value is not None}
    if kinds - {"python_wheel_task"}:
        return task
    retries = 2 if task.max_retries is None else task.max_retries
    return replace(
        task,
        python_wheel_task=task.python_wheel_task
        or PythonWheelTask(
            package_name="flight_delays", entry_point="flight-delays-task", parameters=_parameters(bundle, job, task)
        ),
        environment_key=Variable(path="var.compute.environment_key", type=str),
        job_cluster_key=Variable(path="var.compute.job_cluster_key", type=str),
        libraries=Variable(path="var.compute.libraries", type=list[Library]),
        timeout_seconds=TASK_TIMEOUT_S if task.timeout_seconds is None else task.timeout_seconds,
        max_retries=retries,
        min_retry_interval_millis=60_000 if retries else None,
        # Serverless retries of its own accord, also what is not to be retried.
        disable_auto_optimization=None if retries else True,
    )


def _parameters(bundle: Bundle, job: Job, task: Task) -> list[str]:
    command = str(task.task_key).replace("_", "-")
    if command not in TASKS:
        raise ValueError(f"task {task.task_key} has no type, and there is no command {command}: {', '.join(TASKS)}")
    of_the_job = {str(one.name) for one in job.parameters}
    given = []
    for name, setting in settings_of(*TASKS[command]).items():
        if name in of_the_job:
            value = f"{{{{job.parameters.{name}}}}}"
        elif name in SOURCES:
            value = SOURCES[name]
        elif name in bundle.variables:
            value = f"${{var.{name}}}"
        elif setting.is_required():
            raise ValueError(f"task {task.task_key}: nothing gives {name}; add a job parameter or a variable {name}")
        else:
            continue
        given.append(f"{option_of(name)}={value}")
    return [command, *given]
