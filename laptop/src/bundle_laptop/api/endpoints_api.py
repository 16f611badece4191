"""What the serving-endpoints API takes and answers: https://docs.databricks.com/api/workspace/servingendpoints

Nothing is served here. Kept without effect: workload size and type, scale to zero, provisioned concurrency, rate
limits, usage tracking, fallback, budget policy, e-mail notifications.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, model_validator

from bundle_laptop.api.web import Body, Tree

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w-]*$", max_length=63)]
Percentage = Annotated[StrictInt, Field(ge=0, le=100)]


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
    environment_vars: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _has_name(cls, given: Any) -> Any:  # noqa: ANN401 (whatever the body says)
        if isinstance(given, dict) and given.get("name") is None and given.get("entity_version"):
            model = str(given.get("entity_name", "")).rpartition(".")[2]
            return {**given, "name": f"{model}-{given['entity_version']}"}
        return given


class Route(Body):
    """The share of one served entity; the older name of the field is what most clients send."""

    served_model_name: str | None = None
    served_entity_name: str | None = None
    traffic_percentage: Percentage

    @property
    def served(self) -> str | None:
        """Whose share it is."""
        return self.served_entity_name or self.served_model_name


class Traffic(Body):
    """The shares of all served entities."""

    routes: tuple[Route, ...] = Field(min_length=1)


class Config(Body):
    """All that an endpoint is to serve."""

    name: str | None = None  # of the endpoint, once more
    served_entities: tuple[Entity, ...] = Field(min_length=1)
    traffic_config: Traffic | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        names = Counter(entity.name for entity in self.served_entities)
        routes = Counter(route.served for route in self.routes)
        for what, counted in (("served_entities: entity", names), ("traffic_config: route", routes)):
            twice = [name for name, times in counted.items() if times > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]} is there twice")
        if unknown := [name for name in routes if name not in names]:
            raise ValueError(f"traffic_config: there is no served entity {unknown[0]}")
        if sum(self.shares.values()) != 100:
            raise ValueError(f"traffic_config: percentages sum to {sum(self.shares.values())}, not to 100")
        return self

    @property
    def routes(self) -> tuple[Route, ...]:
        """As given; one entity alone needs none."""
        if self.traffic_config:
            return self.traffic_config.routes
        alone = self.served_entities[0].name if len(self.served_entities) == 1 else None
        return (Route(served_model_name=alone, traffic_percentage=100),) if alone else ()

    @property
    def shares(self) -> dict[str, int]:
        """The percentage of each entity by its name."""
        shares = {route.served: route.traffic_percentage for route in self.routes}
        return {entity.name: shares.get(entity.name, 0) for entity in self.served_entities}


class Tag(Body):
    """A tag of an endpoint."""

    key: str = Field(min_length=1)
    value: str = ""


class TagChange(Body):
    """Tags to set, then keys of tags to remove."""

    add_tags: tuple[Tag, ...] = ()
    delete_tags: tuple[str, ...] = ()

    def apply(self, tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
        """The tags after the change, by key."""
        changed = {tag.key: tag for tag in (*tags, *self.add_tags)}
        return tuple(changed[key] for key in sorted(changed) if key not in self.delete_tags)


class _Switch(Body):
    enabled: bool


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


class _RateLimit(Body):
    calls: StrictInt | None = None
    tokens: StrictInt | None = None
    key: Literal["user", "user_group", "service_principal", "endpoint"] = "endpoint"
    principal: str | None = None
    renewal_period: Literal["minute"]


class AiGateway(Body):
    """The settings of the AI Gateway, of which the inference table alone has an effect."""

    inference_table_config: InferenceTable | None = None
    rate_limits: tuple[_RateLimit, ...] = ()
    usage_tracking_config: _Switch | None = None
    fallback_config: _Switch | None = None


class _Notifications(Body):
    on_update_failure: tuple[str, ...] = ()
    on_update_success: tuple[str, ...] = ()


class NewEndpoint(Body):
    """An endpoint to create; without `config` it serves nothing yet."""

    name: Name
    config: Config | None = None
    description: str = ""
    tags: tuple[Tag, ...] = ()
    ai_gateway: AiGateway | None = None
    budget_policy_id: str | None = None
    email_notifications: _Notifications | None = None


class Endpoint(NewEndpoint):
    """What outlives the server of one endpoint. `entity_ids`, by name, are new with every configuration."""

    id: str
    creation_timestamp: int
    last_updated_timestamp: int
    config_version: int = 0
    entity_ids: Mapping[str, str] = Field(default_factory=dict)

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
    start_time: int
    failure: str | None = None


def shown(endpoint: Endpoint, pending: Pending | None, trouble: str | None) -> Tree:
    """An endpoint as it is answered. `trouble` says why it does not serve what it is configured to."""
    tree: Tree = {
        **endpoint.model_dump(mode="json", exclude_none=True, exclude={"config", "config_version", "entity_ids"}),
        "creator": "local",
        "permission_level": "CAN_MANAGE",
        "state": {
            "ready": "READY" if endpoint.config and not trouble else "NOT_READY",
            "config_update": "NOT_UPDATING" if not pending else "UPDATE_FAILED" if pending.failure else "IN_PROGRESS",
        },
    }
    if endpoint.config:
        deployment = "DEPLOYMENT_FAILED" if trouble else "DEPLOYMENT_READY"
        tree["config"] = _shown_config(endpoint.config, endpoint.config_version, deployment, trouble, {})
    if pending:
        deployment = "DEPLOYMENT_FAILED" if pending.failure else "DEPLOYMENT_CREATING"
        times = {"start_time": pending.start_time}
        tree["pending_config"] = _shown_config(
            pending.config, pending.config_version, deployment, pending.failure, times
        )
    return tree


def _shown_config(config: Config, version: int, deployment: str, message: str | None, more: Mapping[str, int]) -> Tree:
    return {
        "config_version": version,
        "served_entities": [
            {
                **entity.model_dump(mode="json", exclude_none=True),
                "state": {"deployment": deployment, "deployment_state_message": message or ""},
            }
            for entity in config.served_entities
        ],
        "traffic_config": {
            "routes": [
                {"served_model_name": name, "served_entity_name": name, "traffic_percentage": share}
                for name, share in config.shares.items()
            ]
        },
        **more,
    }
