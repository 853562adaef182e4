"""From a handler's result to the bytes of a response."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel

__all__ = ["JSON", "dump_json", "json_response"]

JSON: Final = "application/json"


def _default(value: Any) -> Any:
    """Translate what orjson does not know."""
    if isinstance(value, UUID):  # asyncpg's own subclass
        return str(value)
    if isinstance(value, BaseModel):
        return value.__dict__
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "items"):  # asyncpg.Record
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} can't be sent as JSON")


def dump_json(value: Any) -> bytes:
    """Return ``value`` as UTF-8 JSON.

    Datetimes become RFC 3339 with offset (``2025-01-31T12:00:00.5+00:00``; naive ones are taken as
    UTC), UUIDs, enums, records and models are understood, NaN becomes null.
    """
    return orjson.dumps(value, _default, orjson.OPT_NAIVE_UTC)


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response with ``value`` as its JSON body."""
    return web.Response(body=dump_json(value), status=status, headers=headers, content_type=JSON)
