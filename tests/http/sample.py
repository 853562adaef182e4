"""A small application that uses everything `ains.http` offers, for the tests of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import ClientSession, TCPConnector, web
from pydantic import Field
from typing_extensions import TypedDict

from ains.domain.types import (
    BigInt,
    JsonObject,
    Limit,
    Offset,
    QueryModel,
    RawJson,
    RequestModel,
    length,
    raw_json,
)
from ains.errors import BusinessRule, Conflict, DatabaseUnavailable, Forbidden
from ains.http.docs import docs_routes
from ains.http.handler import Routes, add_routes
from ains.http.middleware import request_log
from ains.http.problems import problems
from collectors.http import HttpMetrics

MOMENT = datetime(2025, 1, 31, 12, 30, 0, 250_000, tzinfo=UTC)

service = Routes("Service")
agents = Routes("Agents", "Who works.")
tasks = Routes("Tasks", "What is to be done.")


class NewAgent(RequestModel):
    """What an agent says of itself."""

    agent_id: Annotated[str, length(64, 1)]
    priority: Annotated[int, Field(ge=1, le=10)] = 5
    uptime: BigInt = 0
    price: float = 0.0
    verified: bool = False
    tags: list[str] = Field([], max_length=10)
    metadata: JsonObject | None = None


class Agent(TypedDict):
    """An agent as it is known."""

    agent_id: str
    created_at: datetime
    priority: int
    price: float
    metadata: RawJson | None


class AgentQuery(QueryModel):
    """Which agents are listed."""

    status: Literal["AVAILABLE", "BUSY"] | None = Field(None, description="Only these.")
    text: str | None = None
    tags: list[str] = Field([])
    limit: Limit = 10
    offset: Offset = 0


class Reason(RequestModel):
    """Why."""

    reason: str | None = None


@agents.post("/agents", errors=(Conflict, BusinessRule))
async def register(request: web.Request, body: NewAgent) -> Agent:
    """Register an agent.

    The rest of the docstring is the description.
    """
    if body.agent_id == "known":
        raise Conflict("The agent id 'known' is taken.")
    return {
        "agent_id": body.agent_id,
        "created_at": MOMENT,
        "priority": body.priority,
        "price": body.price,
        "metadata": raw_json(body.metadata),
    }


@agents.get("/agents")
async def listing(request: web.Request, query: AgentQuery) -> dict[str, Any]:
    """List agents."""
    return query.model_dump()


@agents.get("/agents/first")
async def first(request: web.Request) -> Reason:
    """Return a model."""
    return Reason(reason="first")


@agents.get("/agents/{agent_id}")
async def show(request: web.Request, agent_id: str) -> dict[str, str]:
    """Show an agent."""
    return {"agent_id": agent_id}


@tasks.delete("/tasks/{task_id}", errors=(Forbidden,))
async def cancel(request: web.Request, task_id: UUID, body: Reason | None = None) -> dict[str, Any]:
    """Cancel a task."""
    return {"task_id": task_id, "reason": body and body.reason, "body": body is not None}


@tasks.get("/numbers/{number}")
async def number(request: web.Request, number: int) -> list[int]:
    """Return a list."""
    return [number]


@service.get("/health")
async def health(request: web.Request) -> dict[str, str]:
    """Say that the process lives."""
    return {"status": "healthy"}


@service.get("/metrics", produces="text/plain")
async def metrics(request: web.Request) -> web.Response:
    """Return nothing of interest."""
    return web.Response(text="")


@service.get("/ready", returns=dict[str, str], also={503: "Not ready."})
async def ready(request: web.Request) -> web.Response:
    """Say that it is not ready."""
    return web.Response(status=503, body=b'{"status":"no"}', content_type="application/json")


@service.get("/away", hidden=True)
async def away(request: web.Request) -> None:
    raise DatabaseUnavailable(retry_after=2.5) from OSError("Connect call failed")


@service.get("/broken", hidden=True)
async def broken(request: web.Request) -> None:
    raise RuntimeError("secret: postgresql://joe:pa55@db/x")


@service.get("/moved", hidden=True)
async def moved(request: web.Request) -> None:
    raise web.HTTPFound("/health")


@service.get("/teapot", hidden=True)
async def teapot(request: web.Request) -> None:
    raise web.HTTPUnavailableForLegalReasons(None)


@service.get("/own-validation", hidden=True)
async def own_validation(request: web.Request) -> None:
    NewAgent.model_validate({})


@service.get("/stream", hidden=True)
async def stream(request: web.Request) -> web.StreamResponse:
    request.app[WAITING].append(request)
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"a")
    await request.app[GATE].wait()
    await response.write(b"b")
    return response


@service.get("/wait", hidden=True)
async def wait(request: web.Request) -> dict[str, str]:
    """Wait until the test opens the gate."""
    request.app[WAITING].append(request)
    await request.app[GATE].wait()
    return {}


GATE = web.AppKey("GATE", asyncio.Event)
WAITING = web.AppKey("WAITING", list[web.Request])
MAX_BODY = 100_000


@dataclass
class Sample:
    """A running sample: on a real port, with a client for it."""

    port: int
    client: ClientSession
    metrics: HttpMetrics
    gate: asyncio.Event
    waiting: list[web.Request]

    async def post(self, body: object) -> tuple[int, Any]:
        """POST ``body``, bytes as they are, to /agents; return status and parsed answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.post("/agents", data=data) as response:
            return response.status, await response.json(content_type=None)

    async def get(self, path: str) -> tuple[int, Any]:
        """GET ``path``; return status and parsed answer."""
        async with self.client.get(path) as response:
            return response.status, await response.json(content_type=None)


@asynccontextmanager
async def running(*, handler_cancellation: bool = False) -> AsyncIterator[Sample]:
    """Serve the sample application on a free port."""
    app = web.Application(client_max_size=MAX_BODY)
    gate = app[GATE] = asyncio.Event()
    waiting: list[web.Request] = []
    app[WAITING] = waiting
    counted = HttpMetrics()
    groups = (service, agents, tasks)
    add_routes(
        app,
        *groups,
        docs_routes(groups, "1.2.3"),
        around=(counted.wrap, request_log(quiet=("/health",)), problems()),
    )
    # Not aiohttp's TestServer: it always cancels the handlers of clients that leave.
    runner = web.AppRunner(app, handler_cancellation=handler_cancellation, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with ClientSession(
            base_url=f"http://127.0.0.1:{port}/", connector=TCPConnector(force_close=True)
        ) as client:
            yield Sample(port, client, counted, gate, waiting)
    finally:
        gate.set()
        await runner.cleanup()
