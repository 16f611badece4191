"""Versions of registered models, loaded and asked as MLflow's own scoring server does it.

What Model Serving refuses is refused here with the same message. Two things differ: the environment variables of a
served entity are set in this process, and only while its version is loaded (one at a time); and the version runs with
the packages that are installed here, not with those in its requirements.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bundle_laptop.world import environment_of


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An answer to a request."""

    status: int
    content_type: str
    text: str


Scorer: TypeAlias = Callable[[bytes, str], Scored]
"""Answers a body of a content type."""

Loader: TypeAlias = Callable[[str, int, Mapping[str, str]], Scorer]
"""Loads a version of a model, by name and number, for an environment. What it raises fails the update."""


def load_version(name: str, version: int, environment: Mapping[str, str]) -> Scorer:
    """A version from MLflow's registry, as the process's environment names it."""
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    # Also what MLflow's scoring server tells the model's code.
    with environment_of({**environment, "_MLFLOW_IS_IN_SERVING_ENVIRONMENT": "true"}):
        model = mlflow.pyfunc.load_model(f"models:/{name}/{version}")
    schema = model.metadata.get_input_schema()

    def score(body: bytes, content_type: str) -> Scored:
        try:
            found = scoring_server.invocations(body, content_type, model, schema)
        except MlflowException as error:
            text, status = error.serialize_as_json(), error.get_http_status_code()
            return Scored(status=status, content_type="application/json", text=text)
        return Scored(status=found.status, content_type=found.mimetype, text=found.response)

    return score
