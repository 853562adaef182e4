"""The pages for people, and the OpenAPI document."""

import gzip
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from jsonschema_rs import Draft202012Validator, validator_for

from ains.errors import problem_types
from ains.http.docs import docs_routes
from ains.http.handler import Routes
from ains.http.openapi import build_document
from tests.http.sample import Sample, agents, service, tasks

PAGES = ["/", "/docs", "/docs/problems", "/docs/problems/conflict"]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build_document((service, agents, tasks), "1.2.3")


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def test_every_visible_route_is_documented(document: dict[str, Any]) -> None:
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert described == {
        ("POST", "/agents"),
        ("GET", "/agents"),
        ("GET", "/agents/first"),
        ("GET", "/agents/{agent_id}"),
        ("DELETE", "/tasks/{task_id}"),
        ("GET", "/numbers/{number}"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/ready"),
    }
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "1.2.3"
    assert {"name": "Agents", "description": "Who works."} in document["tags"]


def test_every_reference_leads_somewhere_and_no_component_is_left_over(
    document: dict[str, Any],
) -> None:
    used = {part["$ref"] for part in walk(document) if "$ref" in part}
    made = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert used == made
    assert "#/components/schemas/AgentQuery" not in made  # it is written out as parameters


def test_every_schema_is_valid_json_schema(document: dict[str, Any]) -> None:
    for part in walk(document):
        if "schema" in part:
            validator_for({**part["schema"], "components": document["components"]})


def test_operations_tell_what_they_take(document: dict[str, Any]) -> None:
    register = document["paths"]["/agents"]["post"]
    assert register["operationId"] == "sample_register"
    assert register["summary"] == "Register an agent"
    assert register["description"] == "The rest of the docstring is the description."
    assert register["requestBody"]["required"]
    body = document["components"]["schemas"]["NewAgent"]
    assert body["required"] == ["agent_id"]
    assert body["properties"]["agent_id"]["maxLength"] == 64
    assert {"type": "object"} in body["properties"]["metadata"]["anyOf"]
    assert not document["paths"]["/tasks/{task_id}"]["delete"]["requestBody"]["required"]
    parameters = {p["name"]: p for p in document["paths"]["/agents"]["get"]["parameters"]}
    assert parameters["limit"] == {
        "name": "limit",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10},
    }
    assert parameters["status"]["description"] == "Only these."
    assert parameters["status"]["schema"] == {"type": "string", "enum": ["AVAILABLE", "BUSY"]}
    [task_id] = document["paths"]["/tasks/{task_id}"]["delete"]["parameters"]
    assert task_id["schema"] == {"type": "string", "format": "uuid"}


def test_operations_tell_what_they_answer(document: dict[str, Any]) -> None:
    register = document["paths"]["/agents"]["post"]["responses"]
    assert set(register) == {"200", "400", "409", "413", "422", "default"}
    assert set(register["422"]["content"]) == {"application/problem+json"}
    assert set(document["paths"]["/ready"]["get"]["responses"]) == {"200", "503", "default"}
    assert set(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == {
        "text/plain"
    }
    assert set(document["paths"]["/tasks/{task_id}"]["delete"]["responses"]) > {"403", "404"}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/agents", 200), ("/agents/a", 200), ("/agents?limit=0", 422), ("/numbers/x", 404)],
)
async def test_answers_fit_their_schemas(
    sample: Sample, document: dict[str, Any], path: str, status: int
) -> None:
    template = re.sub(r"\?.*", "", path).replace("/agents/a", "/agents/{agent_id}")
    template = template.replace("/numbers/x", "/numbers/{number}")
    answers = document["paths"][template]["get"]["responses"]
    async with sample.client.get(path) as response:
        assert response.status == status
        [(media_type, content)] = answers[str(status)]["content"].items()
        assert response.content_type == media_type
        schema = {**content["schema"], "components": document["components"]}
        Draft202012Validator(schema).validate(await response.json(content_type=None))


def test_a_route_without_a_docstring_is_refused() -> None:
    async def silent(request: web.Request) -> None: ...

    routes = Routes("T")
    routes.get("/x")(silent)
    with pytest.raises(ValueError, match="needs a docstring"):
        build_document([routes], "1")


def test_two_operations_of_one_name_are_refused() -> None:
    async def twice(request: web.Request) -> None:
        """Do it."""

    routes = Routes("T")
    routes.get("/x")(twice)
    routes.get("/y")(twice)
    with pytest.raises(ValueError, match="two routes have the operation id"):
        build_document([routes], "1")


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", "/docs/assets/docs.js"])
async def test_pages_are_sent_once_and_then_known(sample: Sample, path: str) -> None:
    async with sample.client.get(path) as response:
        assert response.status == 200
        etag = response.headers["ETag"]
        body = await response.read()
    async with sample.client.get(path, headers={"If-None-Match": f'"x", W/{etag}'}) as response:
        assert response.status == 304
        assert await response.read() == b""
    async with sample.client.get(path, headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200
        assert await response.read() == body


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip, deflate, br", True), ("GZIP", True), ("identity", False), ("br;q=1, gzip;q=0", False)],
)
async def test_large_pages_are_compressed_for_those_who_take_it(
    sample: Sample, accepted: str, packed: bool
) -> None:
    path = "/docs/assets/swagger-ui/swagger-ui-bundle.js"
    headers = {"Accept-Encoding": accepted}
    async with sample.client.get(path, headers=headers) as response:
        assert (response.headers.get("Content-Encoding") == "gzip") is packed
        size = int(response.headers["Content-Length"])
        body = await response.read()
    assert response.headers["Vary"] == "Accept-Encoding"
    assert len(body) > 1_000_000
    assert b"sourceMappingURL=" not in body[-200:]
    assert (size < 600_000) is packed


@pytest.mark.parametrize("path", PAGES)
async def test_pages_load_only_what_this_server_has(sample: Sample, path: str) -> None:
    async with sample.client.get(path) as response:
        text = await response.text()
        assert response.content_type == "text/html"
        policy = response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "http" not in policy
    assert "{" not in text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<[^>]+\son\w+=|<style", text)
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links
    for link in set(links) - {"/health/detail", "/metrics/catalog"}:
        assert link.startswith("/")
        async with sample.client.get(link) as linked:
            assert linked.status == 200, link


@pytest.mark.parametrize("slug", [cls.slug for cls in problem_types()])
async def test_each_problem_type_has_its_page(sample: Sample, slug: str) -> None:
    async with sample.client.get(f"/docs/problems/{slug}") as response:
        assert response.status == 200
        assert f"/docs/problems/{slug}" in await response.text()


async def test_unknown_pages_are_404(sample: Sample) -> None:
    for path in ("/docs/problems/nope", "/docs/assets/page.html", "/docs/assets/nope.js"):
        assert (await sample.get(path))[0] == 404


async def test_the_document_is_served_as_it_was_built(
    sample: Sample, document: dict[str, Any]
) -> None:
    assert await sample.get("/openapi.json") == (200, document)


def test_the_pages_can_be_made_twice() -> None:
    assert len(list(docs_routes((service,), "1"))) == len(list(docs_routes((service,), "2")))


def test_the_vendored_files_are_those_of_the_package() -> None:
    """Packed without time stamps, so that vendoring them again changes nothing."""
    from importlib.resources import files

    root = files("ains.http") / "static" / "swagger-ui"
    for name in ("swagger-ui-bundle.js.gz", "swagger-ui.css.gz"):
        packed = root.joinpath(name).read_bytes()
        assert packed[4:8] == b"\0\0\0\0"
        assert gzip.decompress(packed)
    assert "Apache License" in root.joinpath("LICENSE").read_text()
    assert json.dumps(root.joinpath("NOTICE").read_text())
