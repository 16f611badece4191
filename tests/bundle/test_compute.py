"""One variable per target chooses serverless or a job cluster for every job, and changes nothing else."""

import re
from pathlib import Path

import pytest
from databricks.bundles.jobs import Job

from bundle_laptop.errors import LaptopError
from bundle_laptop.plan import make_plan

OF_A_TASK = {"environment_key", "job_cluster_key", "libraries"}
OF_A_JOB = {"environments", "job_clusters"}
CHOICES = {"${var.serverless}", "${var.job_cluster}"}
WHEELS = "./dist/*.whl"
LONG_TERM_SUPPORT = {"17.3", "18"}
UNITY_CATALOG = {"DATA_SECURITY_MODE_DEDICATED", "DATA_SECURITY_MODE_STANDARD"}

SERVERLESS = pytest.mark.parametrize("compute", ["serverless"], indirect=True)
JOB_CLUSTER = pytest.mark.parametrize("compute", ["job_cluster"], indirect=True)


@pytest.fixture
def main(trees):
    return trees[Path("databricks.yml")]


@pytest.fixture
def sent_jobs(resolved):
    return resolved["resources"]["jobs"]


@pytest.fixture
def cluster(sent_jobs):
    """The one that all jobs start."""
    clusters = [cluster for job in sent_jobs.values() for cluster in job["job_clusters"]]
    assert clusters == clusters[:1] * len(sent_jobs)
    return clusters[0]["new_cluster"]


def wheel_tasks(job):
    found = [task for task in job["tasks"] if "python_wheel_task" in task]
    assert found
    return found


def test_a_target_chooses_serverless_or_a_job_cluster(main):
    default = main["variables"]["compute"]["default"]
    assert {default, *(target["variables"].get("compute", default) for target in main["targets"].values())} <= CHOICES


def test_both_choices_settle_everything_that_jobs_leave_to_them(main):
    for name in ("serverless", "job_cluster"):
        assert set(main["variables"][name]["default"]) == OF_A_TASK | OF_A_JOB


def test_a_job_leaves_its_compute_to_the_variable(job):
    assert {key: job.get(key) for key in OF_A_JOB} == {key: f"${{var.compute.{key}}}" for key in OF_A_JOB}


def test_a_wheel_task_leaves_its_compute_to_the_variable_and_other_tasks_have_none(task):
    expected = {key: f"${{var.compute.{key}}}" for key in OF_A_TASK} if task.is_wheel else {}
    assert {key: value for key, value in task.config.items() if key in OF_A_TASK} == expected


@SERVERLESS
def test_on_serverless_every_wheel_task_has_an_environment_with_the_built_wheel_and_no_cluster(sent_jobs):
    for job in sent_jobs.values():
        assert "job_clusters" not in job
        environments = {environment["environment_key"]: environment["spec"] for environment in job["environments"]}
        for task in wheel_tasks(job):
            assert OF_A_TASK & set(task) == {"environment_key"}
            assert environments[task["environment_key"]]["dependencies"] == [WHEELS]
            assert environments[task["environment_key"]]["environment_version"].isdigit()


@JOB_CLUSTER
def test_on_a_job_cluster_every_wheel_task_has_the_jobs_cluster_with_the_built_wheel_and_no_environment(sent_jobs):
    for job in sent_jobs.values():
        assert "environments" not in job
        (cluster,) = job["job_clusters"]
        for task in wheel_tasks(job):
            assert OF_A_TASK & set(task) == {"job_cluster_key", "libraries"}
            assert task["job_cluster_key"] == cluster["job_cluster_key"]
            assert task["libraries"] == [{"whl": WHEELS}]


@JOB_CLUSTER
def test_a_job_cluster_grows_and_shrinks(cluster):
    assert "num_workers" not in cluster
    assert 1 <= cluster["autoscale"]["min_workers"] < cluster["autoscale"]["max_workers"]
    assert cluster["node_type_id"]


@JOB_CLUSTER
def test_a_job_cluster_runs_on_long_term_support(cluster):
    version = re.fullmatch(r"([\d.]+)\.x(-cpu-ml)?-scala2\.13", cluster["spark_version"])
    assert version, "a runtime is named <version>.x-scala2.13, or <version>.x-cpu-ml-scala2.13"
    assert version[1] in LONG_TERM_SUPPORT, "add it, if Databricks supports it long enough"


@JOB_CLUSTER
def test_a_job_cluster_can_see_unity_catalog(cluster):
    assert cluster["data_security_mode"] in UNITY_CATALOG


def test_jobs_with_their_compute_are_what_databricks_types_accept(sent_jobs):
    for job in sent_jobs.values():
        # A job that another runs is known by its key on a laptop, which is no number.
        assert Job.from_dict({**job, "tasks": wheel_tasks(job)}).tasks


def test_compute_decides_where_a_job_runs_and_nothing_else(resolver_on, jobs):
    on = [resolver_on(choice) for choice in sorted(CHOICES)]
    rest = [_without_compute(resolver.at(("resources",))) for resolver in on]
    assert rest[0] == rest[1]
    plans = [make_plan(resolver, jobs).jobs for resolver in on]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("wrong", ["job_cluster", "${var.job_clusters}", "${var.cluster_node_type}"])
def test_any_other_choice_is_refused(resolver_on, wrong):
    with pytest.raises(LaptopError, match=r"compute\.\w+}: the variable's value has no|job_clusters"):
        resolver_on(wrong).at(("resources", "jobs"))


def test_the_cli_is_one_that_leaves_empty_texts_out(main):
    oldest = re.fullmatch(r">= (\d+)\.(\d+)\.\d+", main["bundle"]["databricks_cli_version"])
    assert oldest
    assert (int(oldest[1]), int(oldest[2])) >= (1, 10)


def _without_compute(node):
    if isinstance(node, dict):
        return {key: _without_compute(value) for key, value in node.items() if key not in OF_A_TASK | OF_A_JOB}
    return node
