"""/metrics/catalog: what each metric means, whether the database answers or not."""

import re
from html.parser import HTMLParser
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from ains.http.docs import docs_routes
from ains.http.handler import add_routes
from ains.http.routes.catalog import catalog_routes
from ains.metrics import database_collectors
from collectors.catalog import SUBJECTS, catalog, closest, find
from collectors.connection import pool_maker
from collectors.scrape import Scraper
from tests.support.rows import add_task
from tests.support.serving import serving

AWAY = "postgresql://ains@127.0.0.1:1/ains"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Balanced(HTMLParser):
    """Fails when a tag is left open, or closed that wasn't open."""

    EMPTY = ("meta", "link", "img", "input", "wbr", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def get(dsn: str, path: str, accept: str = "*/*") -> tuple[str, Any]:
    """Content type and body of the answer of an application over ``dsn``."""
    scraper = Scraper(pool_maker(dsn, connect_timeout=2), database_collectors())
    app = web.Application()
    add_routes(app, catalog_routes(scraper), docs_routes([], "1"))
    async with TestClient(TestServer(app)) as client:
        answer = await client.get(path, headers={"Accept": accept})
        assert answer.status == 200
        assert "Accept" in answer.headers.getall("Vary")
        kind = answer.content_type
        body = await (answer.json() if kind == "application/json" else answer.text())
    await scraper.close()
    return kind, body


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("/metrics/catalog", "*/*", "text/html"),
        ("/metrics/catalog", BROWSER, "text/html"),
        ("/metrics/catalog", "application/json", "application/json"),
        ("/metrics/catalog", "application/json, text/plain, */*", "application/json"),
        ("/metrics/catalog", "text/html, application/json;q=0.5", "text/html"),
        ("/metrics/catalog", "application/json;q=x", "text/html"),
        ("/metrics/catalog?format=json", BROWSER, "application/json"),
        ("/metrics/catalog?format=html", "application/json", "text/html"),
    ],
)
async def test_page_or_json(path: str, accept: str, kind: str) -> None:
    assert (await get(AWAY, path, accept))[0] == kind


async def test_catalog_has_every_family_of_a_real_scrape(
    db: asyncpg.Connection, database_url: str
) -> None:
    await add_task(db)
    async with serving(database_url=database_url) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/metrics") as response:
            scraped = list(text_string_to_metric_families(await response.text()))
        async with http.get(f"{server.url}/metrics/catalog?format=json") as response:
            shown = await response.json()
        async with http.get(f"{server.url}/") as response:
            assert 'href="/metrics/catalog"' in await response.text()
        async with http.get(f"{server.url}/openapi.json") as response:
            paths = (await response.json())["paths"]
    listed = {family["name"]: family for family in shown["families"]}
    assert shown["database_up"]
    for metric in scraped:
        entry = find(metric.name)
        assert entry is not None, metric.name
        family = listed[entry.family.name]
        assert family["help"] == metric.documentation
        if entry.source.in_database:
            assert family["series"] == len(metric.samples), metric.name
    content = paths["/metrics/catalog"]["get"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/html"}


async def test_every_family_of_the_database_has_its_view(db: asyncpg.Connection) -> None:
    for entry in catalog():
        if entry.view is None:
            continue
        names = await db.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0",
            entry.view,
        )
        assert {*entry.labels} < {row["attname"] for row in names}


async def test_page_shows_all_that_the_catalog_says(database_url: str) -> None:
    _, text = await get(database_url, "/metrics/catalog")
    page = Balanced(text)
    assert len(set(page.ids)) == len(page.ids)
    for entry in catalog():
        assert entry.family.name in page.ids
    assert [f"#{s.name.lower().replace(' ', '-')}" for s in SUBJECTS] == [
        link for link in page.links if link.startswith("#") and not link.startswith("#ains_")
    ]
    for link in page.links:
        assert link.startswith(("/", "#", "?")), link  # nothing from elsewhere
    assert "The database is away" not in text
    assert re.search(
        r'id="ains_tasks_in_queue">.*?<td class="number"[^>]*>10</td>', text, re.DOTALL
    )


async def test_page_works_while_the_database_is_away() -> None:
    _, text = await get(AWAY, "/metrics/catalog")
    Balanced(text)
    assert "The database is away" in text
    _, shown = await get(AWAY, "/metrics/catalog?format=json")
    assert shown["database_up"] is False
    series = {family["name"]: family["series"] for family in shown["families"]}
    assert series["ains_tasks_created_total"] is None
    assert series["ains_up"] == 1
    assert set(series) == {entry.family.name for entry in catalog()}


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("ains_tasks_created_total", "ains_tasks_created_total"),
        ("ains_tasks_created", "ains_tasks_created_total"),
        ("ains_task_queue_seconds_bucket", "ains_task_queue_seconds"),
        ("ains_task_queue_seconds_created", "ains_task_queue_seconds"),
        ("ains_agents_total", "ains_agents_total"),
        ("nonsense", None),
    ],
)
def test_families_are_found_by_any_of_their_names(name: str, family: str | None) -> None:
    found = find(name)
    assert (found and found.family.name) == family


def test_closest_names() -> None:
    assert closest("ains_task_created_total")[0] == "ains_tasks_created_total"
    assert "ains_webhook_attempts_total" in closest("webhook")
    assert closest("") == []
