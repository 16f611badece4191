"""A job in Python, and what is changed of all jobs."""

from databricks.bundles.core import Bundle, Resources, job_mutator
from databricks.bundles.jobs import Job


def load(bundle: Bundle) -> Resources:
    """The job `shout`; the target's name is its loudness."""
    wheel = {"package_name": "tiny_words", "entry_point": "shout"}
    arguments = {"word": "{{job.parameters.word}}", "schema": "{{job.parameters.schema}}", "target": bundle.target}
    job = {
        "name": "shout",
        "parameters": [{"name": "word", "default": "none"}, {"name": "schema", "default": "none"}],
        "tasks": [{"task_key": "shout", "python_wheel_task": {**wheel, "named_parameters": arguments}}],
    }
    resources = Resources()
    resources.add_job("shout", Job.from_dict(job))
    return resources


@job_mutator
def retried(job: Job) -> Job:
    """Every task of a job that has a name is tried once more."""
    tasks = [{**task.as_dict(), "max_retries": 1} for task in job.tasks]
    return Job.from_dict({**job.as_dict(), "tasks": tasks})
