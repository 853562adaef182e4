"""The vocabulary of the models."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from ains.domain.types import BigInt, Int, JsonObject, JsonValue, raw_json
from ains.http.render import dump_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('abé\n"'), inner),
    max_leaves=30,
)


@given(JSON)
def test_json_text_means_what_was_sent(value: object) -> None:
    text = TypeAdapter(JsonValue).validate_json(json.dumps(value))
    assert isinstance(text, str)
    assert json.loads(text) == value
    assert json.loads(dump_json({"v": raw_json(text)})) == {"v": value}


@pytest.mark.parametrize("value", ["[]", '"x"', "1", "null"])
def test_a_json_object_is_an_object(value: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(JsonObject).validate_json(value)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_without_a_value_are_refused_wherever_they_are(number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        TypeAdapter(JsonValue).validate_python({"a": [{"b": number}], "c": "Infinity"})
    assert TypeAdapter(JsonValue).validate_python(["Infinity", "NaN"]) == '["Infinity","NaN"]'


@pytest.mark.parametrize(("kind", "bits"), [(Int, 31), (BigInt, 63)])
def test_integers_fit_their_columns(kind: Any, bits: int) -> None:
    adapter: TypeAdapter[int] = TypeAdapter(kind)
    assert adapter.validate_python(2**bits - 1) == 2**bits - 1
    assert adapter.validate_python(-(2**bits)) == -(2**bits)
    for value in (2**bits, -(2**bits) - 1):
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


class _Status(StrEnum):
    DONE = "DONE"


class _Uuid(UUID):
    """As asyncpg's: a subclass, which orjson does not know."""


class _Record:
    """As asyncpg's."""

    def items(self) -> list[tuple[str, int]]:
        return [("a", 1)]


class _Model(BaseModel):
    at: datetime


def test_everything_that_rows_hold_can_be_sent() -> None:
    moment = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    value = {
        "aware": moment,
        "naive": moment.replace(tzinfo=None),
        "uuid": _Uuid(int=1),
        "decimal": Decimal("0.5"),
        "enum": _Status.DONE,
        "record": _Record(),
        "models": [_Model(at=moment)],
        "set": {"b", "a"},
        "nan": float("nan"),
        "raw": raw_json('{"z": 1e5}'),
        "null": raw_json(None),
    }
    text = dump_json(value).decode()
    assert '"raw":{"z": 1e5}' in text
    assert json.loads(text) == {
        "aware": "2025-01-02T03:04:05+00:00",
        "naive": "2025-01-02T03:04:05+00:00",
        "uuid": "00000000-0000-0000-0000-000000000001",
        "decimal": 0.5,
        "enum": "DONE",
        "record": {"a": 1},
        "models": [{"at": "2025-01-02T03:04:05+00:00"}],
        "set": ["a", "b"],
        "nan": None,
        "raw": {"z": 100000.0},
        "null": None,
    }
    with pytest.raises(TypeError):
        dump_json({"x": object()})
