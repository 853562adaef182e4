"""Routes as plain functions: what they take and give stands in their annotations.

    routes = Routes(tag="Agents")

    @routes.post("/ains/agents", errors=(Conflict,))
    async def register(request: web.Request, body: RegisterAgent) -> AgentResponse:
        \"\"\"Register an agent.\"\"\"

A parameter called ``body`` is read from the request's JSON, one called ``query`` from its query
string, and one that the path names from the path. The result, a TypedDict, model, list or other
JSON, is sent with status 200; a `web.StreamResponse` is sent as it is. Signatures are looked at
once, when the module is imported.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from ains.domain.types import QueryModel
from ains.errors import AinsError, InvalidInput, MethodNotAllowed, NotFound, quote
from ains.http.parse import body_reader, path_reader, query_reader
from ains.http.render import JSON, dump_json

__all__ = ["UNMATCHED", "Route", "Routes", "Wrapper", "add_routes"]

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_F = TypeVar("_F", bound=Callable[..., Awaitable[Any]])

Wrapper = Callable[[Handler, str, str], Handler]
"""Puts something around a handler, given the method (``*``: any other) and the path's template."""

UNMATCHED: Final = "unmatched"
"""The template of all paths that no route has."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route: what aiohttp needs to serve it and OpenAPI to describe it."""

    method: str
    path: str
    tag: str
    function: Callable[..., Awaitable[Any]]
    summary: str
    description: str
    errors: tuple[type[AinsError], ...]
    path_parameters: dict[str, Any]
    produces: str = JSON
    query: type[QueryModel] | None = None
    body: Any = None
    body_optional: bool = False
    returns: Any = None
    also: tuple[tuple[int, str], ...] = ()
    or_produces: tuple[str, ...] = ()
    hidden: bool = False

    def endpoint(self) -> Handler:
        """Return the aiohttp handler: validate, call, answer."""
        function = self.function
        readers = tuple((n, path_reader(n, a)) for n, a in self.path_parameters.items())
        read_query = query_reader(self.query) if self.query else None
        read_body = None if self.body is None else body_reader(self.body, self.body_optional)
        response, stream_response = web.Response, web.StreamResponse

        async def serve(request: web.Request) -> web.StreamResponse:
            arguments: dict[str, Any] = {}
            if readers:
                found = request.match_info
                for name, read in readers:
                    arguments[name] = read(found[name])
            if read_query is not None:
                arguments["query"] = read_query(request)
            if read_body is not None:
                arguments["body"] = await read_body(request)
            result = await function(request, **arguments)
            if isinstance(result, stream_response):
                return result
            return response(body=dump_json(result), content_type=JSON)

        return serve


class Routes:
    """The routes of one noun; iterate over it for the `Route` objects."""

    def __init__(self, tag: str, description: str = "") -> None:
        """``tag`` is the heading under which the documentation lists the routes."""
        self.tag = tag
        self.description = description
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def get(self, path: str, **options: Any) -> Callable[[_F], _F]:
        """Add a GET route (and HEAD); for the options see `route`."""
        return self.route("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[_F], _F]:
        """Add a POST route; for the options see `route`."""
        return self.route("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[_F], _F]:
        """Add a PUT route; for the options see `route`."""
        return self.route("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[_F], _F]:
        """Add a DELETE route; for the options see `route`."""
        return self.route("DELETE", path, **options)

    def route(
        self,
        method: str,
        path: str,
        *,
        summary: str | None = None,
        errors: Iterable[type[AinsError]] = (),
        produces: str | tuple[str, ...] = JSON,
        returns: Any = None,
        also: Mapping[int, str] = MappingProxyType({}),
        hidden: bool = False,
    ) -> Callable[[_F], _F]:
        """Add the decorated function; it is returned unchanged, so that tests can call it.

        ``summary`` is the docstring's first line by default, the rest of it the description;
        ``errors`` are the problems it may answer with, beside those that follow from its
        parameters; ``produces`` is the media type of the answer, or several: of the first tells
        ``returns``, the others are text. A function that makes its own `web.Response` says by
        ``returns`` what is in it, and by ``also`` under which other statuses it may come
        (``{503: "The database is away."}``). ``hidden`` routes are not documented.
        """
        media, *others = (produces,) if isinstance(produces, str) else produces

        def decorate(function: _F) -> _F:
            route = _inspect(method, path, self.tag, function)
            self._routes.append(
                replace(
                    route,
                    summary=summary or route.summary,
                    errors=tuple(dict.fromkeys((*errors, *route.errors))),
                    produces=media,
                    or_produces=tuple(others),
                    returns=returns or route.returns,
                    also=tuple(also.items()),
                    hidden=hidden,
                )
            )
            return function

        return decorate


def add_routes(app: web.Application, *groups: Routes, around: Sequence[Wrapper] = ()) -> None:
    """Put the routes of all ``groups`` into ``app``, each inside the wrappers ``around``.

    The first wrapper is the outermost. A GET route answers HEAD as well. Whatever else arrives ends
    in the wrappers too: another method at a known path is `MethodNotAllowed`, any other path
    `NotFound`. So this is called once, with all routes.
    """

    def wrapped(handler: Handler, method: str, endpoint: str) -> Handler:
        for wrap in reversed(around):
            handler = wrap(handler, method, endpoint)
        return handler

    by_path: dict[str, dict[str, Handler]] = {}
    for route in (route for group in groups for route in group):
        handlers = by_path.setdefault(route.path, {})
        _must(route.method not in handlers, f"two routes for {route.method} {route.path}")
        handlers[route.method] = route.endpoint()
    for path, handlers in by_path.items():
        if "GET" in handlers:
            handlers.setdefault("HEAD", handlers["GET"])
        # aiohttp's own pattern leaves out braces, which an id may well have.
        resource = app.router.add_resource(_PARAMETER.sub(r"{\1:[^/]+}", path))
        for method, handler in handlers.items():
            resource.add_route(method, wrapped(handler, method, resource.canonical))
        refuse = _method_not_allowed(handlers)
        resource.add_route("*", wrapped(refuse, "*", resource.canonical))
    app.router.add_route("*", "/{path:(?s:.*)}", wrapped(_not_found, "*", UNMATCHED))


def _method_not_allowed(handlers: Iterable[str]) -> Handler:
    allowed = tuple(handlers)

    async def refuse(request: web.Request) -> web.StreamResponse:
        raise MethodNotAllowed(request.method, allowed)

    return refuse


async def _not_found(request: web.Request) -> web.StreamResponse:
    raise NotFound(f"No route has the path {quote(request.path)}.")


def _inspect(method: str, path: str, tag: str, function: Callable[..., Awaitable[Any]]) -> Route:
    where = f"{function.__module__}.{function.__qualname__}"
    hints = get_type_hints(function, include_extras=True)
    returns = hints.pop("return", None)
    names = list(inspect.signature(function).parameters)[1:]
    doc = (inspect.getdoc(function) or "").split("\n", 1)
    in_path: dict[str, Any] = {}
    query: type[QueryModel] | None = None
    body: Any = None
    optional = False
    for name in names:
        annotation = hints.get(name)
        if name == "body":
            body, optional = _without_none(annotation)
            if isinstance(body, type) and issubclass(body, BaseModel):
                _must(bool(body.model_config.get("strict")), f"{where}: {body} must be strict")
        elif name == "query":
            is_query = isinstance(annotation, type) and issubclass(annotation, QueryModel)
            _must(is_query, f"{where}: query must be a QueryModel")
            query = annotation
        else:
            _must(f"{{{name}}}" in path, f"{where}: {path} has no parameter {name}")
            in_path[name] = annotation
    if isinstance(returns, type) and issubclass(returns, BaseModel):
        changed = returns.__pydantic_decorators__
        plain = not (changed.field_serializers or changed.model_serializers)
        _must(plain, f"{where}: the serializers of {returns} would not run")
    implied: list[type[AinsError]] = [InvalidInput] if body is not None or query else []
    implied += [NotFound] if in_path else []
    return Route(
        method=method,
        path=path,
        tag=tag,
        function=function,
        summary=doc[0].rstrip("."),
        description=doc[1].strip() if len(doc) > 1 else "",
        errors=tuple(implied),
        path_parameters=in_path,
        query=query,
        body=body,
        body_optional=optional,
        returns=returns,
    )


def _must(holds: bool, message: str) -> None:
    if not holds:
        raise TypeError(message)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Split ``X | None`` into X and True."""
    if get_origin(annotation) not in {Union, UnionType}:
        return annotation, False
    rest = tuple(a for a in get_args(annotation) if a is not NoneType)
    return Union[rest], NoneType in get_args(annotation)  # noqa: UP007 - built from a tuple
