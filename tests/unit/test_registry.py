"""The registry, on a real MLflow database."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from bundle_laptop.world import mlflow_at
from flight_delays.core.errors import UserError
from flight_delays.platform.registry import Registry, Training, connect, golden_difference, predict, signature
from flight_delays.use_case import USE_CASE

EXPERIMENT = "experiment"


@pytest.fixture
def name(registry: Registry, request: pytest.FixtureRequest) -> str:
    """A model of the test's own, without versions."""
    registry.client.create_registered_model(request.node.name)
    return str(request.node.name)


def test_registering_keeps_all_that_a_version_is_known_by(
    registry: Registry, name: str, training: Callable[..., Training], flights: pd.DataFrame
) -> None:
    made = training("this very training")
    number = registry.register(EXPERIMENT, name, made)
    assert number == 1
    version = registry.version(name, number)
    assert (version.name, version.number, version.tags) == (name, 1, made.version_tags)
    assert registry.client.get_model_version(name, "1").description == "A tiny model."

    run = registry.client.get_run(version.run_id)
    assert run.data.params == {"rounds": "30"}
    assert run.data.metrics == {"test_auc": 0.8}
    assert run.data.tags["training_days"] == "January"
    (read,) = run.inputs.dataset_inputs
    assert (read.dataset.name, [tag.value for tag in read.tags]) == ("features", ["training"])
    assert '"delta_table_version": 3' in read.dataset.source

    loaded = registry.load(name, number)
    assert signature(loaded) == USE_CASE.signature
    probabilities = predict(loaded, flights)["probability"]
    assert np.corrcoef(probabilities, flights["weather_visib"] < 3)[0, 1] > 0.8

    assert registry.find(EXPERIMENT, name, "this very training") == number
    assert registry.find(EXPERIMENT, name, "another") is None
    assert registry.find(EXPERIMENT, "another_model", "this very training") is None


def test_each_trial_is_a_run_beneath_that_of_the_version_and_only_that_one_is_found(
    registry: Registry, name: str, training: Callable[..., Training]
) -> None:
    number = registry.register(EXPERIMENT, name, training("searched"))
    parent = registry.version(name, number).run_id
    assert mlflow.artifacts.load_text(f"runs:/{parent}/model_card.md") == "Tiny."
    experiment = registry.client.get_experiment_by_name(EXPERIMENT).experiment_id
    nested = registry.client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
    assert {run.info.run_name for run in nested} == {"trial 0", "trial 1"}
    for run in nested:
        assert (run.info.status, run.data.tags["state"]) == ("FINISHED", "complete")
        assert run.data.params == {"num_leaves": "4"}
        history = registry.client.get_metric_history(run.info.run_id, "loss")
        assert {(metric.step, metric.value) for metric in history} == {(0, 0.5), (1, 0.25)}
    (found,) = registry.client.search_runs([experiment], "tags.fingerprint = 'searched'")
    assert found.info.run_id == parent


def test_rows_that_a_run_keeps_are_read_again_by_the_name_of_their_file(
    registry: Registry, name: str, training: Callable[..., Training]
) -> None:
    rows = pd.DataFrame({"entity_id": ["a", "b"], "forecast": [0.25, 0.5]})
    made = replace(training("with rows"), frames={"folds.parquet": rows})
    version = registry.version(name, registry.register(EXPERIMENT, name, made))
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(registry.kept(version, "folds.parquet"))), rows)
    assert registry.kept(version, "model_card.md") == b"Tiny."
    with pytest.raises(UserError, match=f"{name} version 1 has kept no other.json; register it by the train job"):
        registry.kept(version, "other.json")


def test_a_run_that_registered_nothing_is_not_found(registry: Registry, name: str) -> None:
    run = registry.client.create_run(registry.client.get_experiment_by_name(EXPERIMENT).experiment_id)
    registry.client.set_tag(run.info.run_id, "fingerprint", "killed early")
    assert registry.find(EXPERIMENT, name, "killed early") is None


def test_a_version_whose_run_was_killed_after_registering_is_found_and_finished(registry: Registry, name: str) -> None:
    run = registry.client.create_run(registry.client.get_experiment_by_name(EXPERIMENT).experiment_id)
    tags = {"fingerprint": "killed late", "version.baseline": "0.2", "mlflow.note.content": "Late."}
    for tag, value in tags.items():
        registry.client.set_tag(run.info.run_id, tag, value)
    registry.client.create_model_version(name, "file:///nowhere", run.info.run_id)

    assert registry.find(EXPERIMENT, name, "killed late") == 1
    for _ in range(2):
        registry.finish(name, 1)
        assert registry.version(name, 1).tags == {"baseline": "0.2"}
        assert registry.client.get_model_version(name, "1").description == "Late."
        assert registry.client.get_run(run.info.run_id).info.status == "FINISHED"


def test_aliases_are_moved_listed_and_removed(registry: Registry, new_version: Callable[..., int]) -> None:
    one, two = new_version("aliased"), new_version("aliased")
    assert registry.aliases("aliased") == {}
    registry.set_alias("aliased", "champion", one)
    registry.set_alias("aliased", "champion", two)
    registry.set_alias("aliased", "challenger", one)
    assert registry.aliases("aliased") == {"champion": 2, "challenger": 1}
    for _ in range(2):
        registry.delete_alias("aliased", "challenger")
    assert registry.aliases("aliased") == {"champion": 2}


def test_a_report_is_added_to_the_run_of_its_version(registry: Registry, new_version: Callable[..., int]) -> None:
    version = registry.version("reported", new_version("reported"))
    registry.log_report(version, "verdict.md", "PASS", {"holdout_auc": 0.7})
    registry.tag_version(version, {"verdict": "PASS"})
    assert registry.client.get_run(version.run_id).data.metrics["holdout_auc"] == 0.7
    assert mlflow.artifacts.load_text(f"runs:/{version.run_id}/verdict.md") == "PASS"
    assert registry.version("reported", version.number).tags == {**version.tags, "verdict": "PASS"}


def test_what_does_not_exist_is_one_line_that_says_what_to_do(
    registry: Registry, name: str, training: Callable[..., Training]
) -> None:
    for ask, says in (
        (lambda: registry.aliases("nobody"), "registered model nobody does not exist; deploy the bundle"),
        (lambda: registry.register(EXPERIMENT, "nobody", training()), "registered model nobody does not exist"),
        (lambda: registry.version(name, 3), f"model {name} has no version 3; take a number"),
        (lambda: registry.find("nowhere", name, "x"), "experiment nowhere does not exist; deploy the bundle"),
        (lambda: registry.register("nowhere", name, training()), "experiment nowhere does not exist"),
    ):
        with pytest.raises(UserError) as error:
            ask()
        assert str(error.value).startswith(says)
        assert "\n" not in str(error.value)


def test_any_other_trouble_of_the_registry_is_no_user_error(registry: Registry) -> None:
    with pytest.raises(MlflowException):
        registry.version("", 1)


def test_golden_requests_are_answered_as_recorded_after_loading(
    registry: Registry, new_version: Callable[..., int]
) -> None:
    loaded = registry.load("golden", new_version("golden"))
    assert golden_difference(loaded) < 1e-9
    loaded.unwrap_python_model().golden["probability"][1] += 0.25
    assert golden_difference(loaded) == pytest.approx(0.25)
    loaded.unwrap_python_model().golden["probability"][1] = None
    assert np.isnan(golden_difference(loaded))


def test_what_documents_a_version_is_found_with_the_tables_it_was_made_from(
    registry: Registry, name: str, training: Callable[..., Training]
) -> None:
    number = registry.register(EXPERIMENT, name, training("documented"))
    found = registry.documentation(registry.version(name, number))
    assert (found.description, found.lineage) == ("A tiny model.", {"features": 3})
    assert found.tags["trained_until"] == "2013-02-01"
    assert "model_card.md" in found.files


def test_a_version_that_nobody_documented_has_nothing_to_show(registry: Registry, name: str) -> None:
    run = registry.client.create_run(registry.client.get_experiment_by_name(EXPERIMENT).experiment_id)
    registry.client.create_model_version(name, "file:///nowhere", run.info.run_id)
    found = registry.documentation(registry.version(name, 1))
    assert (found.description, found.lineage, found.files) == ("", {}, frozenset())


def test_the_signature_is_told_in_plain_words(registry: Registry, new_version: Callable[..., int]) -> None:
    found = signature(registry.load("signed", new_version("signed")))
    inputs = {column.name: (column.type, column.required) for column in found.inputs}
    assert (inputs["origin"], inputs["weather_visib"]) == (("string", True), ("double", False))
    assert [(column.name, column.type) for column in found.outputs] == [
        ("probability", "double"),
        ("prediction", "long"),
    ]


@pytest.fixture
def _used_before() -> Iterator[None]:
    """Of the environment; this process has used another MLflow before."""
    with mlflow_at("sqlite:///before.db"):
        mlflow.set_registry_uri("sqlite:///before.db")
        yield
        mlflow.set_registry_uri(None)


@pytest.mark.usefixtures("laptop_workspace", "_used_before")
@pytest.mark.parametrize(
    ("tracking", "registry", "found"),
    [
        (None, None, ("databricks", "databricks-uc")),
        ("", None, ("databricks", "databricks-uc")),
        ("databricks", "databricks", ("databricks", "databricks-uc")),
        ("sqlite:///m.db", "sqlite:///r.db", ("sqlite:///m.db", "sqlite:///r.db")),
    ],
)
def test_models_are_where_mlflows_own_variables_say_or_else_the_workspaces_in_unity_catalog(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tracking: str | None, registry: str | None, found: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("MLFLOW_TRACKING_URI", tracking), ("MLFLOW_REGISTRY_URI", registry)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    connect()
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == found
