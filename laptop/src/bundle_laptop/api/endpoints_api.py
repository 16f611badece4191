"""What the serving-endpoints API takes and answers: https://docs.databricks.com/api/workspace/servingendpoints

Kept without effect: workload size and type, scale to zero, provisioned concurrency, rate limits, usage tracking,
fallback, budget policy, e-mail notifications.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, model_validator

from bundle_laptop.api.web import Body, Tree

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w-]*$", max_length=63)]


class Entity(Body):
    """A version of a registered model, and how it is run; its name is <model>-<version> unless given."""

    name: Name
    entity_name: str = Field(min_length=1)
    entity_version: str = Field(pattern=r"^[1-9][0-9]*$")
    workload_size: Literal["Small", "Medium", "Large"] = "Small"
    workload_type: str = "CPU"
    scale_to_zero_enabled: bool = False
    min_provisioned_concurrency: int | None = None
    max_provisioned_concurrency: int | None = None
    environment_vars: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _has_name(cls, given: Any) -> Any:  # noqa: ANN401 (whatever the body says)
        if isinstance(given, dict) and given.get("name") is None and given.get("entity_version"):
            model = str(given.get("entity_name", "")).rpartition(".")[2]
            return {**given, "name": f"{model}-{given['entity_version']}"}
        return given


class _Share(Body):
    # The older name of the field is what most clients send.
    served_model_name: str | None = None
    served_entity_name: str | None = None
    traffic_percentage: Annotated[StrictInt, Field(ge=0, le=100)]


class _Traffic(Body):
    routes: tuple[_Share, ...] = Field(min_length=1)


class Config(Body):
    """All that an endpoint is to serve."""

    name: str | None = None  # of the endpoint, once more
    served_entities: tuple[Entity, ...] = Field(min_length=1)
    traffic_config: _Traffic | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        names, routes = [entity.name for entity in self.served_entities], [name for name, _ in self._routes]
        for what, given in (("served_entities: entity", names), ("traffic_config: route", routes)):
            if twice := [name for name, times in Counter(given).items() if times > 1]:
                raise ValueError(f"{what} {twice[0]} is there twice")
        if unknown := [name for name in routes if name not in names]:
            raise ValueError(f"traffic_config: there is no served entity {unknown[0]}")
        if (total := sum(self.shares.values())) != 100:
            raise ValueError(f"traffic_config: percentages sum to {total}, not to 100")
        return self

    @property
    def _routes(self) -> list[tuple[str | None, int]]:
        """Name and percentage, as given; one entity alone needs none."""
        if not self.traffic_config:
            return [(self.served_entities[0].name, 100)] if len(self.served_entities) == 1 else []
        routes = self.traffic_config.routes
        return [(each.served_entity_name or each.served_model_name, each.traffic_percentage) for each in routes]

    @property
    def shares(self) -> dict[str, int]:
        """The percentage of each entity by its name."""
        routes = dict(self._routes)
        return {entity.name: routes.get(entity.name, 0) for entity in self.served_entities}


class InferenceTable(Body):
    """Where requests are logged."""

    enabled: bool = False
    catalog_name: str | None = None
    schema_name: str | None = None
    table_name_prefix: str | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if self.enabled and not (self.catalog_name and self.schema_name):
            raise ValueError("give catalog_name and schema_name")
        return self


class AiGateway(Body):
    """The settings of the AI Gateway, of which the inference table alone has an effect."""

    inference_table_config: InferenceTable | None = None
    rate_limits: list[Tree] | None = None
    usage_tracking_config: Tree | None = None
    fallback_config: Tree | None = None


class NewEndpoint(Body):
    """An endpoint to create; without `config` it serves nothing yet."""

    name: Name
    config: Config | None = None
    description: str = ""
    route_optimized: bool = False  # shown; requests go to the same address
    tags: list[Tree] | None = None
    ai_gateway: AiGateway | None = None
    budget_policy_id: str | None = None
    email_notifications: Tree | None = None


class Endpoint(NewEndpoint):
    """What outlives the server of one endpoint. `entity_ids`, by name, are new with every configuration."""

    id: str
    creation_timestamp: int
    last_updated_timestamp: int
    config_version: int = 0
    entity_ids: dict[str, str] = Field(default_factory=dict)

    @property
    def inference_table(self) -> str | None:
        """The full name of the table of its requests, if they are logged."""
        table = self.ai_gateway and self.ai_gateway.inference_table_config
        if not table or not table.enabled:
            return None
        return f"{table.catalog_name}.{table.schema_name}.{table.table_name_prefix or self.name}_payload"


@dataclass(frozen=True, kw_only=True)
class Pending:
    """An update under way or, if there is something to say, one that failed."""

    config: Config
    config_version: int
    failure: str | None = None


def shown(endpoint: Endpoint, pending: Pending | None) -> Tree:
    """An endpoint as it is answered."""
    tree: Tree = {
        **endpoint.model_dump(mode="json", exclude_none=True, exclude={"config", "config_version", "entity_ids"}),
        "creator": "local",
        "permission_level": "CAN_MANAGE",
        "state": {
            "ready": "READY" if endpoint.config else "NOT_READY",
            "config_update": "NOT_UPDATING" if not pending else "UPDATE_FAILED" if pending.failure else "IN_PROGRESS",
        },
    }
    if endpoint.config:
        tree["config"] = _shown(endpoint.config, endpoint.config_version, "DEPLOYMENT_READY")
    if pending:
        deployment = "DEPLOYMENT_FAILED" if pending.failure else "DEPLOYMENT_CREATING"
        tree["pending_config"] = _shown(pending.config, pending.config_version, deployment, pending.failure or "")
    return tree


def _shown(config: Config, version: int, deployment: str, message: str = "") -> Tree:
    state = {"deployment": deployment, "deployment_state_message": message}
    routes = [
        {"served_model_name": name, "served_entity_name": name, "traffic_percentage": share}
        for name, share in config.shares.items()
    ]
    entities = [entity.model_dump(mode="json", exclude_none=True) for entity in config.served_entities]
    return {
        "config_version": version,
        "served_entities": [{**entity, "state": state} for entity in entities],
        "traffic_config": {"routes": routes},
    }
