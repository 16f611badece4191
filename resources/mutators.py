"""What the bundle's files can't say, filled in whenever the CLI reads them.

A deploy must not touch what serves, so whoever validates or deploys must be able to see the endpoint; where schedules
are on, also the jobs.
"""

import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import fields, replace
from textwrap import shorten
from threading import Thread
from typing import TypeVar

from databricks.bundles.core import (
    Bundle,
    job_mutator,
    model_serving_endpoint_mutator,
    secret_scope_mutator,
)
from databricks.bundles.jobs import CronSchedule, Job, PauseStatus
from databricks.bundles.model_serving_endpoints import EndpointCoreConfigInput, ModelServingEndpoint, ServedEntityInput
from databricks.bundles.secret_scopes import SecretScope, SecretScopePermissionLevel
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.errors import NotFound, PermissionDenied, Unauthenticated
from databricks.sdk.service.serving import EndpointStateConfigUpdate

T = TypeVar("T")

ENDED = (EndpointStateConfigUpdate.UPDATE_FAILED, EndpointStateConfigUpdate.UPDATE_CANCELED)
ENTITY_FIELDS = {field.name for field in fields(ServedEntityInput)}


class DeployRefusedError(Exception):
    """Ends the deploy. It has no traceback, which would be printed with it: one line is all that helps."""

    __traceback__ = None


@model_serving_endpoint_mutator
def keep_what_serves(endpoint: ModelServingEndpoint) -> ModelServingEndpoint:
    """The endpoint with the served entities and traffic that it has in the workspace."""
    return kept(endpoint, workspace)


@secret_scope_mutator
def keep_secrets_from_viewers(scope: SecretScope) -> SecretScope:
    """Without those who may only read: they come from the target's permissions, where they are to look at jobs."""
    return replace(
        scope, permissions=[one for one in scope.permissions if one.level != SecretScopePermissionLevel.READ]
    )


@job_mutator
def start_schedules_last(bundle: Bundle, job: Job) -> Job:
    """The job, its schedule paused if it is new: the deploy after the first complete one starts it."""
    return started_last(job, bundle.target, str(bundle.variables["deployment_folder"]), workspace)


def workspace(retry_s: int = 8) -> WorkspaceClient:
    """As the CLI logs in. What fails in passing is tried again for `retry_s` seconds."""
    return WorkspaceClient(config=Config(retry_timeout_seconds=retry_s, http_timeout_seconds=10))


def kept(
    endpoint: ModelServingEndpoint, connect: Callable[[], WorkspaceClient], limit_s: float = 30
) -> ModelServingEndpoint:
    """`endpoint` with what only a release may change, and the description, whose change would make it anew.

    As declared where none is deployed. Raises DeployRefusedError if what serves can't be read.
    """
    unread = f"endpoint {endpoint.name}: what it serves can't be read, and a deploy would reset it"
    try:
        live = _asked(unread, limit_s, lambda: connect().serving_endpoints.get(endpoint.name))
    except NotFound:
        return endpoint
    # What an update is about to bring counts already: it may be there before this deploy gets to the endpoint.
    ended = live.state is not None and live.state.config_update in ENDED
    serving = live.pending_config if live.pending_config and not ended else live.config
    described = replace(endpoint, description=live.description)
    if serving is None or not serving.served_entities:
        return described
    entities = [
        {name: value for name, value in entity.as_dict().items() if name in ENTITY_FIELDS}
        for entity in serving.served_entities
    ]
    traffic = {"traffic_config": serving.traffic_config.as_dict()} if serving.traffic_config else {}
    return replace(described, config=EndpointCoreConfigInput.from_dict({"served_entities": entities, **traffic}))


def started_last(
    job: Job, target: str, folder: str, connect: Callable[[], WorkspaceClient], limit_s: float = 30
) -> Job:
    """`job`, paused unless a complete deploy to this target made it.

    Raises DeployRefusedError if it can't be known, or if a deployment outside of `folder` has it: both would run.
    """
    if not isinstance(job.schedule, CronSchedule) or job.schedule.pause_status != PauseStatus.UNPAUSED:
        return job

    def deployments() -> dict[str, bool]:
        """The file that the CLI writes at the end of a deploy, by its path: whether it is there, or is another's."""
        client = connect()
        found = [one.settings for one in client.jobs.list(name=job.name) if one.settings]
        mine = [its for its in found if its.name == job.name and (its.tags or {}).get("target") == target]
        files = {(its.deployment and its.deployment.metadata_file_path) or "" for its in mine}
        return {file: not file.startswith(f"{folder}/") or _exists(client, file) for file in files}

    files = _asked(f"job {job.name}: whether it was deployed can't be read", limit_s, deployments)
    for file in filter(None, files):
        if not file.startswith(f"{folder}/"):
            raise DeployRefusedError(
                f"job {job.name}: it is deployed already, and a second one would run beside it; deploy as whoever made "
                f"{file} (variable service_principal), or destroy that deployment first"
            )
    if files and all(files.values()):
        return job
    return replace(job, schedule=replace(job.schedule, pause_status=PauseStatus.PAUSED))


def _exists(client: WorkspaceClient, path: str) -> bool:
    try:
        client.workspace.get_status(path)
    except NotFound:
        return False
    return True


def _asked(unread: str, limit_s: float, ask: Callable[[], T]) -> T:
    """The workspace's answer. Raises NotFound, or DeployRefusedError that begins with `unread` and says why."""
    try:
        return _within(limit_s, ask)
    except NotFound:
        raise
    except Exception as error:
        raise DeployRefusedError(f"{unread}: {_reason(error)}; {_fix(error)}") from None


def _within(seconds: float, ask: Callable[[], T]) -> T:
    # Neither logging in nor the wait that a busy server asks for has a limit of its own.
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    return answer.result(seconds)


def _reason(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, TimeoutError) and error.__cause__ else error
    said = re.split(r"\. (?:Config|Env): ", str(cause))[0]  # the SDK adds all of its settings
    return shorten(said, 200, placeholder=" ...") or "no answer in time"


def _fix(error: Exception) -> str:
    if isinstance(error, PermissionDenied):
        return "deploy as the one who deployed it, or as one who may view it"
    if isinstance(error, Unauthenticated | ValueError):
        return "log in to the workspace (databricks auth login) and deploy again"
    return "deploy again when the workspace answers"
