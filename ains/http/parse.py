"""Reads path parameters, query strings and JSON bodies into what a handler asks for.

Everything that a client can send wrong ends as `InvalidInput`, `BodyTooLarge` or `NotFound`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, get_origin
from uuid import UUID

from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ains.domain.types import QueryModel
from ains.errors import BodyTooLarge, FieldError, InvalidInput, NotFound, RequestTimeout

__all__ = ["body_reader", "invalid_input", "parse_uuid_or_404", "path_reader", "query_reader"]

BODY_SECONDS = 120.0
"""How long the body of a request may take to arrive."""

_MAX_ERRORS = 50
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_UUID_LENGTH = 36


def invalid_input(error: ValidationError, part: str | None = None) -> InvalidInput:
    """Translate pydantic's report; ``part`` (``body``, ``query``) goes before every ``loc``.

    Values of the request are not repeated: they may be large, or secret.
    """
    details = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [_field_error(item, part) for item in details[:_MAX_ERRORS]]
    first = errors[0]
    where = ".".join(map(str, first["loc"]))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return InvalidInput(f"{where}: {first['msg']}{more}." if where else f"{first['msg']}.", errors)


def _field_error(item: ErrorDetails, part: str | None) -> FieldError:
    loc: list[str | int] = [part, *item["loc"]] if part else list(item["loc"])
    return {"loc": loc, "msg": item["msg"], "type": item["type"]}


def _is_clean(text: str) -> bool:
    """Whether PostgreSQL and JSON can hold ``text``: no NUL, no lone surrogate."""
    if text.isascii():
        return "\0" not in text
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_uuid_or_404(text: str, noun: str = "task") -> UUID:
    """Return the UUID that ``text`` spells; anything else is the id of nothing: `NotFound`."""
    if len(text) == _UUID_LENGTH:
        try:
            return UUID(text)
        except ValueError:
            pass
    raise NotFound.of(noun, text)


def path_reader(name: str, annotation: object) -> Callable[[str], Any]:
    """Return what turns the path parameter ``name`` into a str, int or UUID.

    A text that can't be one names nothing that exists: `NotFound`.
    """
    noun = name.removesuffix("_id").replace("_", " ")

    def read_text(text: str) -> str:
        if not _is_clean(text):
            raise NotFound.of(noun, text)
        return text

    def read_int(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < len(str(2**63))):
            raise NotFound.of(noun, text)
        return int(text)

    if annotation is UUID:
        return lambda text: parse_uuid_or_404(text, noun)
    if annotation is int:
        return read_int
    if annotation is str:
        return read_text
    raise TypeError(f"the path parameter {name} must be a str, int or UUID, not {annotation}")


def query_reader(model: type[QueryModel]) -> Callable[[web.Request], QueryModel]:
    """Return what reads the query string into ``model``."""
    lists = frozenset(
        field.alias or name
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is list
    )
    validate = model.__pydantic_validator__.validate_python
    nothing: Mapping[str, str] = {}

    def read(request: web.Request) -> QueryModel:
        url = request.rel_url
        values: Mapping[str, Any] = nothing
        if url.raw_query_string:
            query = url.query
            values = dict(query.items())  # of equal keys the last
            for name in lists & values.keys():
                values[name] = query.getall(name)
            for name, value in query.items():
                if not (_is_clean(value) and _is_clean(name)):
                    raise InvalidInput.at(
                        ["query"], "must be UTF-8 without NUL characters.", "string_unicode"
                    )
        try:
            return validate(values)  # type: ignore[no-any-return]  # pydantic-core returns Any
        except ValidationError as error:
            raise invalid_input(error, "query") from None

    return read


def body_reader(annotation: Any, optional: bool) -> Callable[[web.Request], Awaitable[Any]]:
    """Return what reads the JSON body into ``annotation``: a model, or any type pydantic knows.

    An ``optional`` body that is empty is None. Raises `TypeError` for a list or mapping in it that
    has no maximum length: pydantic would report each wrong item of the millions that fit a body,
    and take 5 s for a million of them.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    for place in _unbounded(adapter.json_schema(), "body"):
        raise TypeError(f"{annotation}: {place} needs a maximum length")
    validate = adapter.validator.validate_json

    async def read(request: web.Request) -> Any:
        length = request.content_length
        if length is not None and length > request.client_max_size > 0:
            raise BodyTooLarge(
                f"The body has {length} bytes; this server accepts {request.client_max_size}."
            )
        if request.content.is_eof():  # as it nearly always is: it came with the head
            raw = await request.read()
        else:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    raw = await request.read()
            except TimeoutError:
                raise RequestTimeout(
                    f"The body did not arrive within {BODY_SECONDS:.0f} seconds."
                ) from None
        if not raw:
            if optional:
                return None
            raise InvalidInput.at(["body"], "a JSON object is required.", "missing")
        if raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        _refuse_what_json_is_not(raw)
        try:
            return validate(raw)
        except ValidationError as error:
            raise invalid_input(error, "body") from None

    return read


def _unbounded(schema: object, place: str) -> Iterator[str]:
    if isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from _unbounded(item, f"{place}[{number}]")
    elif isinstance(schema, dict):
        if schema.get("type") == "array" and "maxItems" not in schema:
            yield place
        if isinstance(schema.get("additionalProperties"), dict) and "maxProperties" not in schema:
            yield place
        for name, item in schema.items():
            yield from _unbounded(item, f"{place}.{name}")


def _refuse_what_json_is_not(raw: bytes) -> None:
    """Refuse what pydantic's parser lets pass: NaN and Infinity, and NUL in texts."""
    if b"\\u0000" in raw and _NUL_ESCAPE.search(raw):
        raise InvalidInput.at(["body"], "must not contain NUL characters.", "string_nul")
    if b"NaN" in raw or b"Infinity" in raw:
        outside = _STRING.sub(b'""', raw)
        if b"NaN" in outside or b"Infinity" in outside:
            raise InvalidInput.at(["body"], "NaN and Infinity are not JSON.", "json_invalid")
