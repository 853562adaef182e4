"""What arrives at a handler and what leaves it, over real sockets."""

import json
from typing import Annotated, Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from pydantic import BaseModel, Field, field_serializer
from yarl import URL

from ains.domain.types import RequestModel
from ains.http.handler import Routes, add_routes
from tests.http.sample import Sample

TASK = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"


async def test_a_model_arrives_and_a_typed_dict_leaves(sample: Sample) -> None:
    status, answer = await sample.post(
        {"agent_id": "a", "price": 3, "metadata": {"k": [1, None]}, "unknown": "ignored"}
    )
    assert status == 200
    assert answer == {
        "agent_id": "a",
        "created_at": "2025-01-31T12:30:00.250000+00:00",
        "priority": 5,
        "price": 3.0,
        "metadata": {"k": [1, None]},
    }


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("agent_id", 5, "string_type"),
        ("agent_id", None, "string_type"),
        ("agent_id", "", "string_too_short"),
        ("agent_id", "x" * 65, "string_too_long"),
        ("priority", "5", "int_type"),
        ("priority", True, "int_type"),
        ("priority", 5.0, "int_type"),
        ("priority", 11, "less_than_equal"),
        ("priority", None, "int_type"),
        ("uptime", 2**63, "less_than"),
        ("price", "1", "float_type"),
        ("price", True, "float_type"),
        ("verified", 1, "bool_type"),
        ("verified", "true", "bool_type"),
        ("tags", "a", "list_type"),
        ("tags", ["a"] * 11, "too_long"),
        ("metadata", [], "dict_type"),
        ("metadata", "{}", "dict_type"),
    ],
)
async def test_wrong_types_are_422(sample: Sample, field: str, value: object, code: str) -> None:
    status, answer = await sample.post({"agent_id": "a", field: value})
    assert status == 422
    [error] = answer["errors"]
    assert error["loc"] == ["body", field]
    assert error["type"] == code
    assert set(error) == {"loc", "msg", "type"}
    assert answer["detail"] == f"body.{field}: {error['msg']}."


async def test_every_wrong_field_is_listed_and_no_value_repeated(sample: Sample) -> None:
    status, answer = await sample.post({"priority": "my secret", "tags": [1, 2]})
    assert status == 422
    assert [e["loc"][1:] for e in answer["errors"]] == [
        ["agent_id"],
        ["priority"],
        ["tags", 0],
        ["tags", 1],
    ]
    assert answer["detail"] == "body.agent_id: Field required (and 3 more)."
    assert "my secret" not in json.dumps(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b'{"agent_id":"a"}x',
        b'{"agent_id":"a",}',
        b"agent_id=a",
        b'{"agent_id":"\xe9"}',
        '{"agent_id":"a"}'.encode("utf-16"),
        b'{"agent_id":"\x01"}',
        b'{"agent_id":"a\\u0000"}',
        b'{"agent_id":"a","metadata":{"deep":["\\\\\\u0000"]}}',
        b'{"agent_id":"a","metadata":{"\\u0000":1}}',
        b'{"agent_id":"a","unknown":"\\u0000"}',
        b'{"agent_id":"\\ud800"}',
        b'{"agent_id":"a","metadata":{"k":"\\udc00 alone"}}',
        b'{"agent_id":"a","metadata":{"k":NaN}}',
        b'{"agent_id":"a","unknown":[-Infinity]}',
        b'{"agent_id":"a","metadata":{"k":[{"n":1e400}]}}',
        b'{"agent_id":"a","price":1e400}',
        b'{"agent_id":"a","metadata":{"k":%s}}' % (b"9" * 5000),
        b'{"agent_id":"a","metadata":%s1%s}' % (b'{"k":' * 300, b"}" * 300),
        b'{"agent_id":"a","unknown":%s}' % (b"[" * 30_000),
    ],
    ids=lambda body: ascii(body[:40].decode("latin-1")),
)
async def test_what_is_not_good_json_is_422(sample: Sample, body: bytes) -> None:
    status, answer = await sample.post(body)
    assert status == 422
    assert answer["errors"][0]["loc"][0] == "body"
    assert answer["title"] == "Invalid input"


@pytest.mark.parametrize(
    "text",
    [
        '{"big":123456789012345678901234567890,"z":1,"a":2}',
        '{"one":1.0,"two":1,"small":1e-7,"tenth":0.1}',
        '{"text":"NaN, Infinity and \\\\u0000","quote":"\\""}',
        '{"emoji":"\U0001f600","combined":"e\u0301","line":"\u2028"}',
        '{"empty":{},"list":[],"null":null,"yes":true}',
    ],
)
async def test_json_for_others_comes_back_as_it_was(sample: Sample, text: str) -> None:
    body = b'{"agent_id":"a","metadata":%s}' % text.encode()
    async with sample.client.post("/agents", data=body) as response:
        assert text.encode() in await response.read()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=nonsense"},
        {"Content-Type": ""},
    ],
)
async def test_the_content_type_does_not_matter(sample: Sample, headers: dict[str, str]) -> None:
    async with sample.client.post("/agents", data=b'{"agent_id":"a"}', headers=headers) as answer:
        assert answer.status == 200


async def test_a_byte_order_mark_is_skipped(sample: Sample) -> None:
    status, answer = await sample.post(b'\xef\xbb\xbf{"agent_id":"a"}')
    assert (status, answer["agent_id"]) == (200, "a")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"limit": 10, "offset": 0, "status": None, "text": None, "tags": []}),
        ("?limit=5&unknown=1", {"limit": 5}),
        ("?limit=5&limit=7", {"limit": 7}),
        ("?tags=a&tags=b", {"tags": ["a", "b"]}),
        ("?text=%C3%A9%20x+y", {"text": "é x y"}),
        ("?status=BUSY", {"status": "BUSY"}),
        ("?text=", {"text": ""}),
        ("?a;b=c;d&&=", {"limit": 10}),
    ],
)
async def test_query_strings_are_parsed(
    sample: Sample, query: str, expected: dict[str, Any]
) -> None:
    status, answer = await sample.get(f"/agents{query}")
    assert status == 200
    assert answer | expected == answer


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=", "limit=1.5", "offset=-1", "status=NO", "text=%00"]
)
async def test_wrong_query_strings_are_422(sample: Sample, query: str) -> None:
    status, answer = await sample.get(f"/agents?{query}")
    assert status == 422
    assert answer["errors"][0]["loc"][0] == "query"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/tasks/{TASK}", 200),
        (f"/tasks/{TASK.upper()}", 200),
        ("/tasks/nope", 404),
        (f"/tasks/{{{TASK}}}", 404),
        (f"/tasks/{TASK[:-1]}g", 404),
        ("/tasks/" + "1" * 36, 404),
    ],
)
async def test_an_id_that_is_no_uuid_is_unknown(sample: Sample, path: str, status: int) -> None:
    async with sample.client.delete(path) as response:
        assert response.status == status
        if status == 404:
            assert "No task has the id" in (await response.json(content_type=None))["detail"]


@pytest.mark.parametrize(
    ("text", "status"),
    [("7", 200), ("-7", 404), ("x", 404), ("\u0667", 404), ("9" * 19, 404), ("9" * 7000, 404)],
)
async def test_numbers_in_paths(sample: Sample, text: str, status: int) -> None:
    assert (await sample.get(f"/numbers/{text}"))[0] == status


async def test_a_static_path_wins_over_a_parameter(sample: Sample) -> None:
    _, answer = await sample.get("/agents/first")
    assert answer == {"reason": "first"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [(None, {"reason": None, "body": False}), (b'{"reason":"x"}', {"reason": "x", "body": True})],
)
async def test_an_optional_body_may_be_missing(
    sample: Sample, body: bytes | None, expected: dict[str, Any]
) -> None:
    async with sample.client.delete(f"/tasks/{TASK}", data=body) as response:
        assert await response.json() == {"task_id": TASK, **expected}


async def test_get_routes_answer_head(sample: Sample) -> None:
    async with sample.client.head("/health") as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == "20"
        assert await response.read() == b""


async def test_another_method_is_405_with_allow(sample: Sample) -> None:
    async with sample.client.put("/agents") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD, POST"
        assert (await response.json(content_type=None))["title"] == "Method not allowed"
    # The parameter's route must not answer for the path that stands beside it.
    async with sample.client.delete("/agents/first") as response:
        assert response.status == 405


@pytest.mark.parametrize("path", ["/no/such/path", "/x%0Ay", "/agents/", "/agents/a/b"])
async def test_an_unknown_path_is_404(sample: Sample, path: str) -> None:
    async with sample.client.get(URL(path, encoded=True)) as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"
        detail = (await response.json(content_type=None))["detail"]
        assert detail == f"No route has the path {unquote(path)!r}."


@pytest.mark.parametrize(
    ("path", "agent_id"),
    [
        ("/agents/a%2Fb", "a/b"),
        ("/agents/%7Ba%7D", "{a}"),
        ("/agents/%E2%82%AC%20%0A", "€ \n"),
        ("/agents/%00", None),
        ("/agents/a%00b", None),
    ],
)
async def test_ids_in_paths_may_be_any_text(
    sample: Sample, path: str, agent_id: str | None
) -> None:
    async with sample.client.get(URL(path, encoded=True)) as response:
        if agent_id is None:  # no text has a NUL character, so nothing has this id
            assert response.status == 404
        else:
            assert await response.json() == {"agent_id": agent_id}


def _add(function: Any, path: str = "/x/{name}") -> None:
    routes = Routes("T")
    routes.post(path)(function)
    add_routes(web.Application(), routes)


class UnboundedList(RequestModel):
    nested: Annotated[list[Annotated[list[int], Field(max_length=9)]] | None, "…"] = None


class UnboundedMapping(RequestModel):
    numbers: dict[str, int]


class Lax(BaseModel):
    number: int = 0


class Changed(BaseModel):
    number: int = 0

    @field_serializer("number")
    def double(self, value: int) -> int:
        return 2 * value


async def _unbounded(request: web.Request, body: UnboundedList) -> None: ...
async def _unbounded_too(request: web.Request, body: UnboundedMapping) -> None: ...
async def _lax(request: web.Request, body: Lax) -> None: ...
async def _no_such_parameter(request: web.Request, other: str) -> None: ...
async def _no_query_model(request: web.Request, query: Lax) -> None: ...
async def _serializer(request: web.Request) -> Changed:
    return Changed()


async def _float_in_path(request: web.Request, name: float) -> None: ...


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (_unbounded, "nested.* needs a maximum length"),
        (_unbounded_too, "numbers needs a maximum length"),
        (_lax, "must be strict"),
        (_no_such_parameter, "has no parameter other"),
        (_no_query_model, "must be a QueryModel"),
        (_serializer, "would not run"),
        (_float_in_path, "must be a str, int or UUID"),
    ],
)
def test_mistakes_in_signatures_show_at_the_start(function: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        _add(function)


def test_two_routes_for_one_path_and_method_are_refused() -> None:
    async def handler(request: web.Request) -> None: ...

    routes = Routes("T")
    routes.get("/x")(handler)
    routes.get("/x")(handler)
    with pytest.raises(TypeError, match="two routes for GET /x"):
        add_routes(web.Application(), routes)


def test_the_decorator_returns_the_function() -> None:
    async def handler(request: web.Request) -> None: ...

    assert Routes("T").get("/x")(handler) is handler
