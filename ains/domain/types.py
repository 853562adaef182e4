"""The vocabulary of request and response models.

A request body is strict: ``"5"`` is not an integer and ``true`` is not a number (an integer is a
fine float). Unknown fields are ignored. JSON that AINS only keeps for others, such as a task's
input, is checked, and then handled as text: it goes to the database and back without being parsed.

Results are best TypedDicts, those of typing_extensions: pydantic, which documents them, can't read
the standard library's before Python 3.12.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema, to_json

__all__ = [
    "BigInt",
    "Int",
    "JsonObject",
    "JsonValue",
    "Limit",
    "Offset",
    "QueryModel",
    "RawJson",
    "RequestModel",
    "ResponseModel",
    "length",
    "raw_json",
]


class RequestModel(BaseModel):
    """Base of everything that arrives as JSON: strict types, unknown fields ignored, frozen."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class QueryModel(BaseModel):
    """Base of query strings: values are parsed from text, unknown parameters ignored, frozen.

    A parameter that is given more than once counts with its last value, unless its field is a list.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class ResponseModel(BaseModel):
    """Base of answers that are objects; a TypedDict does as well and is faster.

    Answers are not validated again: what a handler returns is what is sent.
    """

    model_config = ConfigDict(frozen=True)


def length(maximum: int, minimum: int = 0) -> Any:
    """Limit how many characters a text has; for use in `Annotated`."""
    return Field(min_length=minimum, max_length=maximum)


Int = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""An integer that fits PostgreSQL's ``integer``."""

BigInt = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""An integer that fits PostgreSQL's ``bigint``."""

Limit = Annotated[int, Field(ge=1, le=1000)]
"""How many rows a page has."""

Offset = Annotated[int, Field(ge=0, lt=2**63)]
"""How many rows are left out before a page."""


def _has_non_finite(value: object) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return True
        if isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    return False


def _to_text(value: object) -> str:
    # Unlike orjson, to_json writes integers of any size, and shows a number that was too large
    # (1e400) instead of turning it into null.
    text = to_json(value)
    if (b"Infinity" in text or b"NaN" in text) and _has_non_finite(value):
        raise PydanticCustomError("finite_number", "Every number should be finite")
    return text.decode()


class _AsText:
    """Pydantic metadata: any JSON of the wrapped schema's shape becomes JSON text."""

    def __init__(self, schema: Callable[[], CoreSchema], json_schema: dict[str, Any]) -> None:
        self._schema = schema
        self._json_schema = json_schema

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_to_text, self._schema())

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return dict(self._json_schema)


JsonObject = Annotated[
    str,
    _AsText(
        lambda: core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()),
        {"type": "object"},
    ),
]
"""In a request: any JSON object, as compact JSON text for a ``json`` parameter.

Order, unknown escapes, large integers and the difference of 1 and 1.0 are kept; of equal keys the
last wins; floats are those of IEEE 754, and one beyond them is an error.
"""

JsonValue = Annotated[str, _AsText(core_schema.any_schema, {})]
"""In a request: any JSON value, as compact JSON text; see `JsonObject`."""


class _Passed:
    """Pydantic metadata: how `RawJson` looks in the documentation."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.any_schema()


RawJson = Annotated[orjson.Fragment, _Passed()]
"""In a response: JSON text that is sent as it is, made by `raw_json`."""


def raw_json(text: str | None) -> orjson.Fragment | None:
    """Wrap the text of a ``json`` column so that it is sent as it is; NULL stays ``null``."""
    return None if text is None else orjson.Fragment(text)
