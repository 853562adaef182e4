"""The OpenAPI 3.1 document, made from the routes' annotations.

https://spec.openapis.org/oas/v3.1.1.html. Its schemas are JSON Schema 2020-12, as pydantic writes
them: of request models what they accept, of results what is sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from ains.errors import AinsError, BodyTooLarge, InvalidProblem, Problem
from ains.http.handler import Route, Routes
from ains.http.problems import PROBLEM_JSON
from ains.http.render import JSON

__all__ = ["build_document"]

Json = dict[str, Any]
_REF: Final = "#/components/schemas/{model}"
_PATH_SCHEMAS: Final[Mapping[Any, Json]] = {
    str: {"type": "string"},
    int: {"type": "integer", "minimum": 0},
    UUID: {"type": "string", "format": "uuid"},
}
_Key = tuple[int, Literal["body", "query", "result", "problem"]]
_PROBLEM: Final[_Key] = (-1, "problem")
_INVALID: Final[_Key] = (-2, "problem")


def build_document(groups: Iterable[Routes], version: str) -> Json:
    """Return the document for the visible routes of ``groups``, tags and paths in their order."""
    visible = [(group, route) for group in groups for route in group if not route.hidden]
    routes = [route for _, route in visible]
    schemas, components = _schemas(routes)
    paths: dict[str, Json] = defaultdict(dict)
    names: set[str] = set()
    for number, route in enumerate(routes):
        name = operation_id(route)
        if name in names:
            raise ValueError(f"two routes have the operation id {name}")
        if not route.summary:
            raise ValueError(f"{name} needs a docstring: it is the route's documentation")
        names.add(name)
        paths[route.path][route.method.lower()] = _operation(
            route, number, name, schemas, components
        )
    tags = {group.tag: group.description for group, _ in visible}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AINS",
            "version": version,
            "summary": "A registry of agents and a queue of tasks.",
            "description": "Errors are problem documents (RFC 9457); their types are explained "
            "under [/docs/problems](/docs/problems). Metrics are at [/metrics](/metrics).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": tag, "description": text} if text else {"name": tag}
            for tag, text in tags.items()
        ],
        "paths": dict(paths),
        "components": {"schemas": _reachable(paths, components)},
    }


def operation_id(route: Route) -> str:
    """Return the route's name among all: its module's last part and its function's name."""
    return f"{route.function.__module__.rpartition('.')[2]}_{route.function.__name__}"


def _schemas(routes: list[Route]) -> tuple[dict[_Key, Json], dict[str, Json]]:
    """Return the schemas of all bodies, queries and results, and the components they refer to."""
    wanted: list[tuple[_Key, JsonSchemaMode, TypeAdapter[Any]]] = [
        (_PROBLEM, "serialization", TypeAdapter(Problem)),
        (_INVALID, "serialization", TypeAdapter(InvalidProblem)),
    ]
    for number, route in enumerate(routes):
        if route.body is not None:
            wanted.append(((number, "body"), "validation", TypeAdapter(route.body)))
        if route.query:
            wanted.append(((number, "query"), "validation", TypeAdapter(route.query)))
        if _is_json(route):
            wanted.append(((number, "result"), "serialization", TypeAdapter(route.returns)))
    found, shared = TypeAdapter.json_schemas(
        wanted, ref_template=_REF, schema_generator=GenerateJsonSchema
    )
    return {key: schema for (key, _), schema in found.items()}, shared.get("$defs", {})


def _is_json(route: Route) -> bool:
    returns = route.returns
    raw = isinstance(returns, type) and issubclass(returns, web.StreamResponse)
    return returns is not None and not raw and route.produces == JSON


def _ref_name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _reachable(paths: object, components: Mapping[str, Json]) -> dict[str, Json]:
    """Leave out what nothing refers to: query models, which are written out as parameters."""
    found: dict[str, Json] = {}
    pending = [paths]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        elif isinstance(part, dict):
            pending += part.values()
            name = _ref_name(part)
            if name in components and name not in found:
                found[name] = components[name]
                pending.append(components[name])
    return dict(sorted(found.items()))


def _operation(
    route: Route, number: int, name: str, schemas: dict[_Key, Json], components: dict[str, Json]
) -> Json:
    parameters: list[Json] = [
        {"name": path_name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[annotation]}
        for path_name, annotation in route.path_parameters.items()
    ]
    if route.query:
        schema = schemas[number, "query"]
        parameters += _query_parameters(components.get(_ref_name(schema), schema))
    operation: Json = {"operationId": name, "tags": [route.tag], "summary": route.summary}
    if route.description:
        operation["description"] = route.description
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {JSON: {"schema": schemas[number, "body"]}},
        }
    result: Json = {"type": "string"} if route.produces != JSON else {}
    content = {route.produces: {"schema": schemas.get((number, "result"), result)}}
    content |= {media: {"schema": {"type": "string"}} for media in route.or_produces}
    operation["responses"] = {
        "200": {"description": "Done.", "content": content},
        **{str(status): {"description": text, "content": content} for status, text in route.also},
        **_problems(route, schemas),
    }
    return operation


def _query_parameters(schema: Json) -> Iterable[Json]:
    required = schema.get("required", [])
    for name, value in schema.get("properties", {}).items():
        plain = _without_null(value)
        parameter: Json = {"name": name, "in": "query", "required": name in required}
        description = plain.pop("description", None)
        if description:
            parameter["description"] = description
        yield {**parameter, "schema": plain}


def _without_null(schema: Json) -> Json:
    """A query string can't say null; it leaves the parameter out."""
    plain = {key: value for key, value in schema.items() if key != "title"}
    if plain.get("default", 0) is None:
        del plain["default"]
    options = [option for option in plain.get("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:
        del plain["anyOf"]
        plain = {**options[0], **plain}
    elif options:
        plain["anyOf"] = options
    return plain


def _problems(route: Route, schemas: dict[_Key, Json]) -> Json:
    by_status: dict[int, list[type[AinsError]]] = defaultdict(list)
    too_large: list[type[AinsError]] = [BodyTooLarge] if route.body is not None else []
    for error in (*route.errors, *too_large):
        by_status[error.status].append(error)
    answers: Json = {}
    for status, errors in sorted(by_status.items()):
        schema = schemas[_INVALID if status == 422 else _PROBLEM]  # noqa: PLR2004 - as is
        answers[str(status)] = {
            "description": " ".join(error.summary() for error in errors),
            "content": {PROBLEM_JSON: {"schema": schema}},
        }
    answers["default"] = {
        "description": "Any other problem.",
        "content": {PROBLEM_JSON: {"schema": schemas[_PROBLEM]}},
    }
    return answers
