"""Training and release, killed before each of their writes and run again: the same model serves, for one reason."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import mlflow
import pandas as pd
import pytest
from tests.conftest import EXPERIMENT
from tests.contexts import POLICY, MemoryDecisions, MemoryRows, make_context, promotion
from tests.faults.seams import killed_at_each, writes_of

from flight_delays.core.settings import Judge, Train
from flight_delays.core.traffic import Served
from flight_delays.platform.context import Context
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.registry import Registry
from flight_delays.tasks import judge, promote, serving, train

MEASURED = {"latency_ms", "size_mb", "decision_id"}  # the last is a digest of the model's name too


@pytest.fixture
def context_of(
    registry: Registry, endpoints: Endpoints, flights: pd.DataFrame, new_version: Callable[..., int]
) -> Callable[[str], Context]:
    """Version 1 of a model serves; version 2 is to be released."""

    def make(name: str) -> Context:
        for _ in range(2):
            new_version(name)
        registry.set_alias(name, "champion", 1)
        endpoints.configure(
            "delay",
            [Served(name="champion", model_name=name, model_version=1, percentage=100)],
            workload_size="Small",
            scale_to_zero=True,
            environment=serving.environment(promotion("any", 1, "any")),
            progress=lambda _: None,
        )
        return make_context(
            as_of=datetime(2013, 2, 21, tzinfo=UTC),
            registry=registry,
            endpoints=lambda: endpoints,
            labelled=MemoryRows(flights),
            decisions=MemoryDecisions(),
        )

    return make


def release(name: str) -> Callable[[Context], None]:
    """The tasks of the release job."""

    def run(context: Context) -> None:
        judge.run(context, Judge(model_name=name, model_version=2, holdout_days=14, policy=POLICY))
        verdict_id = context.task_values["verdict_id"]
        promote.run(context, promotion(name, 2, verdict_id))

    return run


def left(context: Context, name: str) -> dict[str, Any]:
    """What a release leaves behind."""
    version = context.registry.version(name, 2)
    first, *others = decisions = context.decisions.find(model_name=name)
    live = context.endpoints().configuration("delay")
    report = mlflow.artifacts.load_text(f"runs:/{version.run_id}/verdict.md")
    return {
        "aliases": context.registry.aliases(name),
        "served": [(one.name, one.model_version, one.percentage) for one in live],
        "decisions": [(one.kind, one.model_version, one.other_version, one.outcome, one.reasons) for one in decisions],
        "allowed by": [one.allowed_by == first.decision_id for one in others],
        "tags": {key: value for key, value in version.tags.items() if key not in MEASURED},
        "judged by": version.tags["decision_id"] == first.decision_id,
        "report": re.sub(r"latency_ms [\d.]+", "latency_ms", report).splitlines()[2:],
    }


def test_a_release_killed_before_any_of_its_writes_and_run_again_ends_as_one_that_nobody_disturbed(
    context_of: Callable[[str], Context],
) -> None:
    undisturbed = context_of("undisturbed")
    writes = writes_of(release("undisturbed"), undisturbed)
    expected = left(undisturbed, "undisturbed")
    assert expected["aliases"] == {"champion": 2, "previous_champion": 1}
    assert expected["allowed by"] == [True]
    for name, context, where in killed_at_each(writes, "a release", release, context_of):
        release(name)(context)
        assert left(context, name) == expected, where


def test_a_training_killed_before_any_of_its_writes_and_run_again_leaves_one_version_as_it_should_be(
    registry: Registry, flights: pd.DataFrame
) -> None:
    def training(name: str) -> Callable[[Context], None]:
        settings = Train(model_name=name, experiment=EXPERIMENT, holdout_days=14, trials=1, git_commit="0a1b2c3")
        return lambda context: train.run(context, settings)

    def context_for(name: str) -> Context:
        registry.client.create_registered_model(name)
        return make_context(as_of=datetime(2013, 2, 21, tzinfo=UTC), registry=registry, labelled=MemoryRows(flights))

    def left(name: str) -> tuple[dict[str, str], str, str]:
        (version,) = registry.client.search_model_versions(f"name = '{name}'")
        return version.tags, version.description, registry.client.get_run(version.run_id).info.status

    context = context_for("trained")
    writes = writes_of(training("trained"), context)
    expected = left("trained")
    assert expected[2] == "FINISHED"
    for name, context, where in killed_at_each(writes, "a training", training, context_for):
        training(name)(context)
        assert left(name) == expected, where
        assert context.task_values["model_version"] == "1"
