"""MLflow: training runs, registered versions and aliases. A version is a number."""

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.delta_dataset_source import DeltaDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.environment_variables import MLFLOW_REGISTRY_URI, MLFLOW_TRACKING_URI
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PyFuncModel
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from flight_delays.core.contract import Documentation
from flight_delays.core.errors import UserError
from flight_delays.core.signature import Column, Signature

if TYPE_CHECKING:  # who serves has neither
    from matplotlib.figure import Figure

    from flight_delays.core.training import Trial

DIGEST = "model_digest"  # tag of a run: the digest of what its version's answers come from
IMAGE = "image"  # tag of a version: the container image that serves it, <repository>@sha256:<digest>
_FINGERPRINT = "fingerprint"
_SHELL = Path(__file__).with_name("shell.py")
_PICTURES = "plots"
_VERSION = "version."  # prefix of the run's tags that its version gets too


class NotThereError(UserError):
    """The model, the version or its files do not exist, or no longer."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything that a training run records.

    `inputs` maps a table to the Delta version that was read, `texts` a file to what it says, `frames` one to the rows
    that it holds as Parquet; each of `trials` becomes a child run.
    """

    fingerprint: str
    tags: Mapping[str, str]
    parameters: Mapping[str, object]
    metrics: Mapping[str, float]
    figures: "Mapping[str, Figure]"
    texts: Mapping[str, str]
    frames: Mapping[str, pd.DataFrame]
    trials: "tuple[Trial, ...]"
    inputs: Mapping[str, int]
    artifacts: Mapping[str, Path]
    signature: Signature
    input_example: pd.DataFrame
    requirements: tuple[str, ...]
    version_tags: Mapping[str, str]
    description: str


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version: its number, the run that made it and its tags."""

    name: str
    number: int
    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the run that made a version recorded; `pictures` maps a name to a PNG image."""

    description: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    pictures: Mapping[str, bytes]


@dataclass(frozen=True)
class Registry:
    """The model registry and the tracking server behind it."""

    client: MlflowClient

    def aliases(self, name: str) -> dict[str, int]:
        """Alias to version number. Raises NotThereError for an unknown model."""
        with _known(f"registered model {name} does not exist; deploy the bundle, which creates it"):
            return {alias: int(version) for alias, version in self.client.get_registered_model(name).aliases.items()}

    def version(self, name: str, number: int) -> Version:
        """One version by its number. Raises NotThereError if there is none, UserError if no run made it."""
        with _known(f"model {name} has no version {number}; take a number that the train job printed"):
            found = self.client.get_model_version(name, str(number))
        if not found.run_id:
            raise UserError(f"model {name} version {number} was not made by a run; register it by the train job")
        return Version(name=name, number=number, run_id=found.run_id, tags=found.tags)

    def image(self, name: str, number: int) -> str:
        """The container image that serves a version. Raises UserError if none was made."""
        found = self.version(name, number).tags.get(IMAGE)
        if not found:
            raise UserError(f"model {name} version {number} has no image; run the workflow image.yml for it")
        return found

    def newest(self, name: str) -> int:
        """The highest number of a version. Raises NotThereError for a model without one."""
        self.aliases(name)
        numbers = [int(version.version) for version in self.client.search_model_versions(f"name = '{name}'")]
        if not numbers:
            raise NotThereError(f"model {name} has no version; run the train job")
        return max(numbers)

    def load(self, name: str, number: int) -> PyFuncModel:
        """The model itself. Raises NotThereError if the version or its files are gone."""
        with _known(f"model {name} version {number} has lost its files; train a new version"):
            model: PyFuncModel = mlflow.pyfunc.load_model(f"models:/{name}/{number}")
        return model

    def download(self, name: str, number: int, folder: Path) -> Path:
        """The version's files, copied into `folder`."""
        return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{number}", dst_path=str(folder)))

    def record(self, version: Version) -> Record:
        """What the run that made a version recorded."""
        run = self.client.get_run(version.run_id)
        files = [found.path for found in self.client.list_artifacts(version.run_id, _PICTURES)]
        return Record(
            description=run.data.tags[MLFLOW_RUN_NOTE],
            tags=version.tags,
            metrics=run.data.metrics,
            pictures={Path(file).stem: self._read(version, file) for file in files},
        )

    def kept(self, version: Version, file: str) -> bytes:
        """A file of the run that made a version. Raises UserError if there is none."""
        if file not in {found.path for found in self.client.list_artifacts(version.run_id)}:
            raise UserError(f"{version.name} version {version.number} has kept no {file}; register it by the train job")
        return self._read(version, file)

    def _read(self, version: Version, file: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return Path(self.client.download_artifacts(version.run_id, file, folder)).read_bytes()

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point `alias` at a version."""
        self.client.set_registered_model_alias(name, alias, str(number))

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove `alias`, which need not exist."""
        if alias in self.aliases(name):
            self.client.delete_registered_model_alias(name, alias)

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self.client.set_model_version_tag(version.name, str(version.number), key, value)

    def delete_tag(self, version: Version, key: str) -> None:
        """Delete a tag of a version, which need not have it."""
        if key in version.tags:
            self.client.delete_model_version_tag(version.name, str(version.number), key)

    def log_report(self, version: Version, file: str, text: str, metrics: Mapping[str, float]) -> None:
        """Add a text file and metrics to the run that made a version."""
        self.client.log_text(version.run_id, text, file)
        for key, value in metrics.items():
            self.client.log_metric(version.run_id, key, value)

    def find(self, experiment: str, name: str, fingerprint: str) -> int | None:
        """The version that a run with this fingerprint registered under `name`, if there is one."""
        runs = self.client.search_runs(
            [self._experiment_id(experiment)], filter_string=f"tags.{_FINGERPRINT} = '{fingerprint}'"
        )
        makers = {run.info.run_id for run in runs}
        versions = self.client.search_model_versions(f"name = '{name}'")
        made = [int(version.version) for version in versions if version.run_id in makers and version.status == "READY"]
        return min(made, default=None)

    def register(self, experiment: str, name: str, training: Training) -> int:
        """Log a run with its model. Returns the number of the new version."""
        self.aliases(name)
        of_version = {_VERSION + key: value for key, value in training.version_tags.items()}
        tags = {**training.tags, **of_version, _FINGERPRINT: training.fingerprint}
        experiment_id = self._experiment_id(experiment)
        with mlflow.start_run(experiment_id=experiment_id, description=training.description, tags=tags):
            mlflow.log_params(dict(training.parameters))
            mlflow.log_metrics(dict(training.metrics))
            for file, figure in training.figures.items():
                mlflow.log_figure(figure, f"{_PICTURES}/{file}")
            for file, text in training.texts.items():
                mlflow.log_text(text, file)
            with tempfile.TemporaryDirectory() as folder:
                for file, rows in training.frames.items():
                    rows.to_parquet(Path(folder) / file, index=False)
                mlflow.log_artifacts(folder)
            for trial in training.trials:
                with mlflow.start_run(
                    experiment_id=experiment_id,
                    run_name=f"trial {trial.number}",
                    tags={"state": trial.state},
                    nested=True,
                ):
                    mlflow.log_params({**trial.parameters})
                    for fold, (loss, rounds) in enumerate(zip(trial.losses, trial.rounds, strict=True)):
                        mlflow.log_metrics({"loss": loss, "rounds": rounds}, step=fold)
            for table, delta_version in training.inputs.items():
                source = DeltaDatasetSource(delta_table_name=table, delta_table_version=delta_version)
                dataset = MetaDataset(source, name=table.rsplit(".", 1)[-1])  # type: ignore[abstract]  # has no profile
                mlflow.log_input(dataset, context="training")
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(_SHELL),
                artifacts={key: str(path) for key, path in training.artifacts.items()},
                signature=_signature(training.signature),
                input_example=training.input_example,
                pip_requirements=list(training.requirements),
                registered_model_name=name,
            )
        number = int(logged.registered_model_version)
        self.finish(name, number)
        return number

    def log_study(
        self, experiment: str, run_name: str, texts: Mapping[str, str], figures: "Mapping[str, Figure]"
    ) -> str:
        """Log files to a run of their own. Returns its id."""
        with mlflow.start_run(experiment_id=self._experiment_id(experiment), run_name=run_name) as run:
            for file, text in texts.items():
                mlflow.log_text(text, file)
            for file, figure in figures.items():
                mlflow.log_figure(figure, file)
        return str(run.info.run_id)

    def finish(self, name: str, number: int) -> None:
        """Copy description and tags from a version's run to the version, and end that run.

        Idempotent: the run of a killed process is found by its fingerprint and finished this way.
        """
        version = self.version(name, number)
        run = self.client.get_run(version.run_id)
        tags = {key.removeprefix(_VERSION): value for key, value in run.data.tags.items() if key.startswith(_VERSION)}
        self.tag_version(version, tags)
        self.client.update_model_version(name, str(number), description=run.data.tags[MLFLOW_RUN_NOTE])
        self.client.set_terminated(version.run_id)

    def _experiment_id(self, experiment: str) -> str:
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            raise UserError(f"experiment {experiment} does not exist; deploy the bundle, which creates it")
        return str(found.experiment_id)

    def documentation(self, version: Version) -> Documentation:
        """What documents a version, from the version and the run that made it. Raises NotThereError without the run."""
        with _known(f"the run that made {version.name} version {version.number} does not exist"):
            run = self.client.get_run(version.run_id)
        datasets = [read.dataset for read in run.inputs.dataset_inputs] if run.inputs else []
        return Documentation(
            description=self.client.get_model_version(version.name, str(version.number)).description or "",
            tags=version.tags,
            lineage={one.name: json.loads(one.source).get("delta_table_version") for one in datasets},
            files=frozenset(file.path for file in self.client.list_artifacts(version.run_id)),
            digest=run.data.tags.get(DIGEST),
        )


def digest_of(artifacts: Iterable[Path]) -> str:
    """SHA-256 of all that a version's answers come from: its `artifacts`, which stand in one folder."""
    files = sorted(file for path in artifacts for file in [path, *path.rglob("*")] if file.is_file())
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def signature(model: PyFuncModel) -> Signature:
    """The model's columns."""
    inputs, outputs = model.metadata.get_input_schema(), model.metadata.get_output_schema()
    if inputs is None or outputs is None:
        raise UserError("the model has no signature of inputs and outputs; register it by the train job")
    return Signature(
        inputs=tuple(Column(name=spec.name, type=repr(spec.type), required=spec.required) for spec in inputs.inputs),
        outputs=tuple(Column(name=spec.name, type=repr(spec.type)) for spec in outputs.inputs),
    )


def _signature(columns: Signature) -> ModelSignature:
    def schema(columns: Sequence[Column]) -> Schema:
        return Schema([ColSpec(DataType[one.type], one.name, required=one.required) for one in columns])

    return ModelSignature(inputs=schema(columns.inputs), outputs=schema(columns.outputs))


def predict(model: PyFuncModel, rows: pd.DataFrame) -> pd.DataFrame:
    """The model's output columns for each row; `rows` has at least the columns of its signature."""
    answers = model.predict(rows[model.metadata.get_input_schema().input_names()])
    if not isinstance(answers, pd.DataFrame):
        raise TypeError(f"the model answers with a {type(answers).__name__}, not with a DataFrame")
    return answers


def read_golden_requests(model: PyFuncModel) -> pd.DataFrame:
    """The requests that travel with the model, in the columns that it takes."""
    schema = model.metadata.get_input_schema()
    types = dict(zip(schema.input_names(), schema.pandas_types(), strict=True))
    requests: pd.DataFrame = pd.DataFrame(model.unwrap_python_model().golden)[schema.input_names()].astype(types)
    return requests


def recorded_answers(model: PyFuncModel) -> pd.Series:
    """The forecasts that the golden requests had when the version was made; the name is that of the output column."""
    golden = model.unwrap_python_model().golden
    (forecast,) = (one.name for one in signature(model).outputs if one.name in golden)
    return pd.Series(golden[forecast], dtype="float64", name=forecast)


def golden_difference(model: PyFuncModel) -> float:
    """How far the model's answers to its golden requests are from the recorded ones, at most; NaN if one is missing."""
    recorded = recorded_answers(model)
    answers = predict(model, read_golden_requests(model))[recorded.name]
    return float((answers - recorded).abs().max(skipna=False))


def connect() -> Registry:
    """The MLflow that its own environment variables name now; else the workspace's, with Unity Catalog."""
    tracking, registry = MLFLOW_TRACKING_URI.get(), MLFLOW_REGISTRY_URI.get()
    if tracking in (None, "", "databricks"):  # a runtime may name it, and the older registry
        tracking, registry = "databricks", "databricks-uc"
    # Set here, because MLflow itself would keep those that this process used before.
    return connect_to(Uris(tracking, registry))


@dataclass(frozen=True)
class Uris:
    """Where runs are tracked and models registered."""

    tracking: str
    registry: str


def uris() -> Uris:
    """The addresses that this process is connected to."""
    return Uris(mlflow.get_tracking_uri(), mlflow.get_registry_uri())


def connect_to(uris: Uris) -> Registry:
    """The registry at these addresses; also in another process of the same job."""
    for noisy in ("mlflow", "alembic"):  # what MLflow says of its own work
        logging.getLogger(noisy).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uris.tracking)
    mlflow.set_registry_uri(uris.registry)
    return Registry(client=MlflowClient())


@contextmanager
def _known(otherwise: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise NotThereError(otherwise) from error
