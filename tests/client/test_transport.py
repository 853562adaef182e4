"""How the client sends: retries, timeouts, errors. The peer is a small HTTP server of the test."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import perf_counter
from typing import Any

import pytest
from aiohttp import web

from ains.client import (
    AinsClient,
    ApiError,
    BadAnswer,
    Conflict,
    InvalidInput,
    NoAnswer,
    NotFound,
    RateLimited,
    RetryPolicy,
    ServerError,
    Unavailable,
)

HEALTHY: dict[str, Any] = {"status": "healthy", "service": "AINS", "version": "1"}
FAST = RetryPolicy(attempts=4, first_delay=0.001, rng=random.Random(1))

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Answer every request with ``handler``; yields the URL."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def problem(status: int, detail: str = "No.", **more: Any) -> dict[str, Any]:
    return {"type": "/x", "title": "X", "status": status, "detail": detail, **more}


class Script:
    """Answers with one prepared response after the other, the last one for ever."""

    def __init__(self, *answers: tuple[int, dict[str, Any], dict[str, str]]) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str]] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        await request.read()
        status, body, headers = self.answers[0]
        if len(self.answers) > 1:
            self.answers.pop(0)
        return web.json_response(body, status=status, headers=headers)


OK: tuple[int, dict[str, Any], dict[str, str]] = (200, dict(HEALTHY), {})


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, ApiError),
        (404, NotFound),
        (409, Conflict),
        (422, InvalidInput),
        (418, ApiError),
        (429, RateLimited),
        (500, ServerError),
        (503, Unavailable),
        (504, ServerError),
    ],
)
async def test_each_status_is_an_exception_with_the_problem(
    status: int, cls: type[ApiError]
) -> None:
    errors = [{"loc": ["query", "limit"], "msg": "too large", "type": "less_than_equal"}]
    script = Script((status, problem(status, "Too bad.", errors=errors), {}))
    async with serving(script) as url, AinsClient(url, retry=RetryPolicy(attempts=1)) as ains:
        with pytest.raises(cls, match=f"{status}: Too bad.") as caught:
            await ains.health()
    assert caught.value.status == status
    assert caught.value.detail == "Too bad."
    assert caught.value.errors == errors


async def test_a_proxy_that_answers_in_html_is_an_error_with_its_words() -> None:
    async def proxy(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=502, text="<h1>Bad gateway</h1>", content_type="text/html")

    async with serving(proxy) as url, AinsClient(url) as ains:
        with pytest.raises(ServerError, match="502: <h1>Bad gateway"):
            await ains.health()


async def test_something_else_at_this_address_is_a_bad_answer() -> None:
    async with serving(Script((200, {"hello": "world"}, {}))) as url, AinsClient(url) as ains:
        with pytest.raises(BadAnswer, match=r"GET http.*/health answered something else"):
            await ains.health()


async def test_a_database_that_is_away_for_a_moment_is_waited_for() -> None:
    away = (503, problem(503), {"Retry-After": "0"})
    script = Script(away, away, OK)
    async with serving(script) as url, AinsClient(url, retry=FAST) as ains:
        assert (await ains.health()).service == "AINS"
    assert len(script.requests) == 3


async def test_attempts_end() -> None:
    script = Script((503, problem(503), {}))
    async with serving(script) as url, AinsClient(url, retry=FAST) as ains:
        with pytest.raises(Unavailable):
            await ains.health()
    assert len(script.requests) == 4


async def test_retry_after_is_waited_for() -> None:
    script = Script((429, problem(429), {"Retry-After": "1"}), OK)
    start = perf_counter()
    async with serving(script) as url, AinsClient(url, retry=FAST) as ains:
        await ains.health()
    assert perf_counter() - start >= 1.0


async def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    script = Script((503, problem(503), {"Retry-After": soon}), OK)
    async with serving(script) as url, AinsClient(url, retry=FAST) as ains:
        with pytest.raises(Unavailable) as caught:  # an hour is more than anybody waits
            await ains.health()
    assert 3590 < (caught.value.retry_after or 0) <= 3600
    assert len(script.requests) == 1


async def test_what_may_have_been_done_is_not_sent_twice() -> None:
    script = Script((503, problem(503), {"Retry-After": "0"}), OK)
    async with serving(script) as url, AinsClient(url, retry=FAST) as ains:
        with pytest.raises(Unavailable):
            await ains.tasks.create("acme", task_type="t", capability_required="c")
    assert script.requests == [("POST", "/ains/tasks")]


async def test_what_was_refused_for_its_rate_is_sent_again() -> None:
    created = {
        "task_id": "1",
        "status": "PENDING",
        "priority": 5,
        "routing_strategy": "round_robin",
        "assigned_agent_id": None,
        "created_at": "2026-01-01T00:00:00Z",
        "field_of_the_future": True,
    }
    script = Script((429, problem(429), {"Retry-After": "0"}), (200, created, {}))
    async with serving(script) as url, AinsClient(url, retry=FAST) as ains:
        task = await ains.tasks.create("acme", task_type="t", capability_required="c")
    assert task.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert len(script.requests) == 2


async def test_a_connection_that_breaks_is_tried_again_where_that_is_safe() -> None:
    seen: list[str] = []

    async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.method)
        if len(seen) == 1 or request.method == "POST":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(HEALTHY)

    async with serving(hang_up) as url, AinsClient(url, retry=FAST) as ains:
        await ains.health()
        with pytest.raises(NoAnswer) as caught:
            await ains.agents.adjust_trust("a", 0.1, "because")
    assert seen == ["GET", "GET", "POST"]
    assert caught.value.sent


async def test_nobody_there_is_said_at_once_and_anything_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    waits: list[float] = []

    class Spy(random.Random):
        def uniform(self, a: float, b: float) -> float:
            waits.append(super().uniform(a, b))
            return waits[-1]

    retry = RetryPolicy(attempts=3, first_delay=0.001, rng=Spy(1))
    async with AinsClient(f"http://127.0.0.1:{port}", retry=retry) as ains:
        with pytest.raises(NoAnswer) as caught:
            await ains.tasks.retry("1")
    assert not caught.value.sent
    assert len(waits) == 2
    assert all(0.5 <= wait <= 1 for wait in waits)


async def test_an_attempt_takes_no_longer_than_its_timeout() -> None:
    over = asyncio.Event()

    async def sleepy(_: web.BaseRequest) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    retry = RetryPolicy(attempts=2, first_delay=0.001)
    start = perf_counter()
    async with serving(sleepy) as url, AinsClient(url, timeout=0.1, retry=retry) as ains:
        with pytest.raises(NoAnswer):
            await ains.health()
        took = perf_counter() - start
        over.set()
    assert 0.2 <= took < 5


async def test_ids_are_quoted_in_paths_and_absent_parameters_left_out() -> None:
    script = Script((404, problem(404), {}))
    async with serving(script) as url, AinsClient(url + "/") as ains:
        with pytest.raises(NotFound):
            await ains.agents.get("a/../b?c")
        with pytest.raises(NotFound):
            await ains.tasks.list(client_id="x y", limit=5)
        with pytest.raises(NotFound):
            await ains.tasks.batch_status(["1", "2"])
    assert script.requests == [
        ("GET", "/ains/agents/a%2F..%2Fb%3Fc"),
        ("GET", "/aitp/tasks?client_id=x+y&limit=5"),
        ("GET", "/aitp/tasks/batch/status?task_ids=1,2"),
    ]


async def test_a_list_is_followed_by_its_cursors_to_the_end() -> None:
    def item(number: int) -> dict[str, Any]:
        now = "2026-01-01T00:00:00Z"
        return {
            "task_id": str(number),
            "client_id": "c",
            "task_type": "t",
            "status": "PENDING",
            "priority": 5,
            "assigned_agent_id": None,
            "created_at": now,
            "updated_at": now,
            "input_data": {"n": number},
            "capability_required": "x",
        }

    def page(numbers: list[int], cursor: str | None) -> tuple[int, dict[str, Any], dict[str, str]]:
        rest = {"total": 5, "limit": 2, "offset": 0, "next_cursor": cursor}
        return 200, {"tasks": [item(n) for n in numbers], **rest}, {}

    script = Script(page([1, 2], "A"), page([3, 4], "B"), page([5], None))
    async with serving(script) as url, AinsClient(url) as ains:
        found = [task.input_data["n"] async for task in ains.tasks.iterate(page_size=2)]
    assert found == [1, 2, 3, 4, 5]
    assert [path for _, path in script.requests] == [
        "/aitp/tasks?limit=2",
        "/aitp/tasks?limit=2&cursor=A",
        "/aitp/tasks?limit=2&cursor=B",
    ]


async def test_a_client_that_was_not_opened_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with AinsClient"):
        await AinsClient("http://127.0.0.1:1").health()
