"""What the serving-endpoints API takes and answers, in the fields of databricks-sdk. Nothing is served here."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from flight_delays.local.yaml_file import Tree

_SECRET = re.compile(r"\{\{secrets/([\w.-]+/[\w.-]+)\}\}")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w-]*$", max_length=63)]
Percentage = Annotated[StrictInt, Field(ge=0, le=100)]


class _Body(BaseModel):
    """A field that is not here is one that this control plane would do nothing about: an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Entity(_Body):
    """A version of a registered model, and how it is run."""

    name: Name
    entity_name: str = Field(min_length=1)
    entity_version: str = Field(pattern=r"^[1-9][0-9]*$")
    workload_size: Literal["Small", "Medium", "Large"] = "Small"
    workload_type: Literal["CPU"] = "CPU"
    scale_to_zero_enabled: bool = False
    environment_vars: dict[str, str] = {}

    def environment(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """Its variables with references to secrets, `scope/key`, resolved. Raises ValueError for an unknown one."""
        resolved = {}
        for variable, value in self.environment_vars.items():
            match = _SECRET.fullmatch(value)
            if match and match[1] not in secrets:
                raise ValueError(f"environment_vars: {variable}: there is no secret {value}")
            resolved[variable] = secrets[match[1]] if match else value
        return resolved


class Route(_Body):
    """The share of one served entity; the older name of the field is what most clients send."""

    served_model_name: str | None = None
    served_entity_name: str | None = None
    traffic_percentage: Percentage

    @property
    def served(self) -> str | None:
        """Whose share it is."""
        return self.served_entity_name or self.served_model_name


class Traffic(_Body):
    """The shares of all served entities."""

    routes: tuple[Route, ...] = Field(min_length=1)


class Config(_Body):
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


class Tag(_Body):
    """A tag of an endpoint."""

    key: str = Field(min_length=1)
    value: str = ""


class TagChange(_Body):
    """Tags to set, then keys of tags to remove."""

    add_tags: tuple[Tag, ...] = ()
    delete_tags: tuple[str, ...] = ()

    def apply(self, tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
        """The tags after the change, by key."""
        changed = {tag.key: tag for tag in (*tags, *self.add_tags)}
        return tuple(changed[key] for key in sorted(changed) if key not in self.delete_tags)


class _Switch(_Body):
    enabled: bool


class _InferenceTable(_Body):
    enabled: bool = False
    catalog_name: str | None = None
    schema_name: str | None = None
    table_name_prefix: str | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if self.enabled and not (self.catalog_name and self.schema_name):
            raise ValueError("give catalog_name and schema_name")
        return self


class _RateLimit(_Body):
    calls: StrictInt | None = None
    tokens: StrictInt | None = None
    key: Literal["user", "user_group", "service_principal", "endpoint"] = "endpoint"
    principal: str | None = None
    renewal_period: Literal["minute"]


class AiGateway(_Body):
    """What is kept of the AI Gateway's settings."""

    inference_table_config: _InferenceTable | None = None
    rate_limits: tuple[_RateLimit, ...] = ()
    usage_tracking_config: _Switch | None = None
    fallback_config: _Switch | None = None


class NewEndpoint(_Body):
    """An endpoint to create; without `config` it serves nothing yet."""

    name: Name
    config: Config | None = None
    description: str = ""
    tags: tuple[Tag, ...] = ()
    ai_gateway: AiGateway | None = None


class Endpoint(_Body):
    """What outlives the control plane of one endpoint. `entity_ids`, by name, are new with every configuration."""

    name: Name
    id: str
    description: str
    creation_timestamp: int
    last_updated_timestamp: int
    tags: tuple[Tag, ...] = ()
    ai_gateway: AiGateway | None = None
    config: Config | None = None
    config_version: int = 0
    entity_ids: dict[str, str] = {}


class Endpoints(_Body):
    """The file of all endpoints."""

    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pending:
    """An update under way or, if there is something to say, one that failed."""

    config: Config
    config_version: int
    start_time: int
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServedEntityRow:
    """One row of system.serving.served_entities, in those of its columns that are kept on a laptop."""

    served_entity_id: str
    endpoint_name: str
    served_entity_name: str
    entity_type: Literal["CUSTOM_MODEL"] = "CUSTOM_MODEL"
    entity_name: str
    entity_version: str
    endpoint_config_version: int
    change_time: datetime


def rows(endpoint: str, pending: Pending, ids: Mapping[str, str]) -> list[ServedEntityRow]:
    """What is written down when an update is about to serve; `ids` by the entities' names."""
    return [
        ServedEntityRow(
            served_entity_id=ids[entity.name],
            endpoint_name=endpoint,
            served_entity_name=entity.name,
            entity_name=entity.entity_name,
            entity_version=entity.entity_version,
            endpoint_config_version=pending.config_version,
            change_time=datetime.now(tz=UTC),
        )
        for entity in pending.config.served_entities
    ]


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
        tree["config"] = _shown_config(endpoint.config, endpoint.config_version, deployment, trouble)
    if pending:
        deployment = "DEPLOYMENT_FAILED" if pending.failure else "DEPLOYMENT_CREATING"
        shown_config = _shown_config(pending.config, pending.config_version, deployment, pending.failure)
        tree["pending_config"] = {**shown_config, "start_time": pending.start_time}
    return tree


def _shown_config(config: Config, version: int, deployment: str, message: str | None) -> Tree:
    return {
        "config_version": version,
        "served_entities": [
            {
                **entity.model_dump(mode="json"),
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
    }
