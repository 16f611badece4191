"""The service's own description, with the columns that the served model takes and answers."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from flight_delays.core.signature import Column
from flight_delays.serving.configuration import Settings
from flight_delays.serving.service import Service

_TYPES: dict[str, dict[str, object]] = {  # of what is answered; a request's are those of its parser
    "string": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
}
_ERRORS = {
    "400": "The body is not what the model takes; the message names the column and the reason",
    "401": "No known bearer token",
    "404": "No version is served under this name",
    "408": "The body was not whole in time",
    "413": "The body is too large",
    "415": "The content type is not application/json",
    "429": "Too many requests at once",
    "500": "The model failed",
    "503": "No version is served yet, or the online store does not answer",
}
_SCORING = {
    "/invocations": "Score rows by the version that the traffic split chooses",
    "/served-models/{name}/invocations": "Score rows by one served version",
}
_PREDICTION = {
    **{"entity_id": "string", "prediction_ts": "datetime", "model_name": "string", "model_version": "integer"},
    **{"scored_at": "datetime", "probability": "double", "prediction": "double", "source": "string"},
}
_PRECOMPUTED = "/predictions/{entity_id}"
_OPEN = ("/ping", "/health", "/ready")


def document(app: FastAPI, service: Service, settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.1 of what is served now."""
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    refusals = {status: {"description": text, "content": _content("Error")} for status, text in _ERRORS.items()}
    found["components"] = {
        "schemas": {
            "Error": {
                "type": "object",
                "required": ["error_code", "message"],
                "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
            },
            **_schemas(service),
        },
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}} if settings.tokens is not None else {},
    }
    names = {"type": "string", "enum": [entity.name for entity in service.entities]}
    by_name = {"name": "name", "in": "path", "required": True, "schema": names}
    for path, summary in _SCORING.items():
        found["paths"][path] = {
            "post": {
                "summary": summary,
                "operationId": path,
                "parameters": [by_name] if "{name}" in path else [],
                "requestBody": {"required": True, "content": _content("Request")},
                "responses": {
                    "200": {"description": "A prediction per row", "content": _content("Response")},
                    **refusals,
                },
            }
        }
    entity_id = {"name": "entity_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    found["paths"][_PRECOMPUTED] = {
        "get": {
            "summary": "The newest prediction of an entity that was made beforehand",
            "operationId": _PRECOMPUTED,
            "parameters": [entity_id],
            "responses": {
                "200": {"description": "The prediction", "content": _content("Prediction")},
                "404": {"description": "No prediction of this entity is there", "content": _content("Error")},
                "429": refusals["429"],
                "503": {"description": "No online store, or none that answers", "content": _content("Error")},
            },
        }
    }
    for path, operations in found["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            responses.pop("422", None)
            if path == "/ready":
                responses["503"] = refusals["503"]
            if path == "/metrics":
                responses["200"] = {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
            if path not in _OPEN:
                responses["401"] = refusals["401"]
                operation["security"] = [{"token": []}] if settings.tokens is not None else []
    return found


def _content(schema: str) -> dict[str, object]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _schemas(service: Service) -> dict[str, object]:
    entity = service.route(0)
    outputs = entity.loaded.signature.outputs if entity else ()
    return {
        "Request": entity.loaded.parser.json_schema() if entity else {},
        "Prediction": _object(
            [Column(name=name, type=kind, required=name != "probability") for name, kind in _PREDICTION.items()]
        ),
        "Response": {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": _object(outputs)}},
        },
    }


def _object(columns: Sequence[Column]) -> dict[str, object]:
    cells = {column.name: _cell(column) for column in columns}
    return {"type": "object", "required": [*cells], "properties": cells, "additionalProperties": False}


def _cell(column: Column) -> dict[str, object]:
    kind = _TYPES[column.type]
    return kind if column.required else {**kind, "type": [kind["type"], "null"]}
