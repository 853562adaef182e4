"""Request ids and the access log."""

import re
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from ains.http.middleware import REQUEST_ID, request_log
from ains.logs import request_id
from tests.http.raw import exchange
from tests.http.sample import Sample, running
from tests.support.logs import LogLines


async def test_each_answer_has_an_id_of_its_own(sample: Sample) -> None:
    names = set()
    for path in ("/health", "/health", "/nowhere", "/broken", "/docs", "/moved"):
        async with sample.client.get(path, allow_redirects=False) as response:
            names.add(response.headers[REQUEST_ID])
    assert len(names) == 6
    assert all(re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", name) for name in names)


@pytest.mark.parametrize("given", ["a", "req-1_2.3:4/5=6@7+8", "0af7651916cd43dd8448eb211c80319c"])
async def test_a_sane_id_of_the_client_is_kept(sample: Sample, given: str) -> None:
    async with sample.client.get("/health", headers={REQUEST_ID: given}) as response:
        assert response.headers[REQUEST_ID] == given


@pytest.mark.parametrize("given", [b"a b", b"", b'"x"', b"\xff", b"a" * 129, b"<script>", b"a;b"])
async def test_any_other_id_is_replaced(sample: Sample, given: bytes) -> None:
    answer = await exchange(
        sample.port,
        b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: %s\r\n\r\n" % given,
    )
    found = re.search(rb"X-Request-ID: (.*)\r\n", answer)
    assert found
    assert re.fullmatch(rb"[0-9a-f]{12}-[0-9a-f]+", found[1])


async def test_requests_are_logged_and_quiet_ones_only_for_debugging(sample: Sample) -> None:
    with capture_logs() as logs:
        await sample.get("/agents?text=private")
        await sample.get("/health")
        await sample.get("/away")
    assert [(e["path"], e["status"], e["log_level"]) for e in logs if e["event"] == "request"] == [
        ("/agents", 200, "info"),
        ("/health", 200, "debug"),
        ("/away", 503, "info"),
    ]
    assert logs[0]["method"] == "GET"
    assert logs[0]["remote"] == "127.0.0.1"
    assert 0 <= logs[0]["ms"] < 10_000
    assert "private" not in str(logs)  # what is searched for is nobody's business


async def test_the_log_can_be_off() -> None:
    class Request:
        headers: dict[str, str] = {}  # noqa: RUF012 - a stand-in

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response()

    with capture_logs() as logs:
        request: Any = Request()
        await request_log(enabled=False)(handler, "GET", "/x")(request)
    assert logs == []


async def test_what_is_logged_for_a_request_carries_its_id(log_lines: LogLines) -> None:
    async with (
        running() as sample,
        sample.client.get("/broken", headers={REQUEST_ID: "mine"}) as response,
    ):
        assert response.status == 500
    lines = log_lines()
    assert [(line["event"], line["request_id"]) for line in lines] == [
        ("unexpected error", "mine"),
        ("request", "mine"),
    ]
    assert "RuntimeError: secret: postgresql://joe:***@db/x" in lines[0]["exception"]
    assert request_id.get() is None
