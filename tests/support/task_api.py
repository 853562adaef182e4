"""The routes of tasks and chains on a real port over a real database, for tests."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

import asyncpg
from aiohttp import ClientSession, web
from yarl import URL

from ains.db.pool import Database
from ains.domain.service import ServiceState
from ains.http.handler import add_routes
from ains.http.keys import DB, SETTINGS, STATE, WAKE
from ains.http.problems import problems
from ains.http.routes import batch, chains, dependencies, maintenance, queue, routing, tasks
from ains.settings import Settings


@dataclass
class TaskApi:
    """A client of one server; :meth:`again` starts another one on the same database."""

    http: ClientSession
    base: str
    db: asyncpg.Connection
    pool: Database
    woken: list[None] = field(default_factory=list)
    state: ServiceState = field(default_factory=ServiceState)

    async def call(
        self, method: str, path: str, body: object = None, /, **query: object
    ) -> tuple[int, Any]:
        """Send one request; ``body`` is sent as JSON, bytes as they are."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        pairs = [(name, str(value)) for name, value in query.items() if value is not None]
        url = URL(self.base + path).extend_query(pairs)
        async with self.http.request(method, url, data=data) as response:
            text = await response.read()
            kind = "application/problem+json" if response.status >= 400 else "application/json"
            assert response.content_type == kind, text
            return response.status, json.loads(text)

    async def ok(
        self, method: str, path: str, body: object = None, /, **query: object
    ) -> dict[str, Any]:
        """Send one request that must succeed."""
        status, answer = await self.call(method, path, body, **query)
        assert status == 200, answer
        assert isinstance(answer, dict)
        return answer

    async def agent(
        self,
        agent_id: str = "a1",
        tags: Iterable[str] = ("sum",),
        status: str = "AVAILABLE",
        **more: Any,
    ) -> Self:
        """Write an agent into the database; ``more`` are columns."""
        row = {
            "agent_id": agent_id, "display_name": f"Agent {agent_id}", "endpoint": "http://a",
            "public_key": "00", "signature": "00", "tags": list(tags), "status": status,
        } | more  # fmt: skip
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await self.db.execute(
            f"INSERT INTO agents ({', '.join(row)}, last_heartbeat) VALUES ({places}, now())",
            *row.values(),
        )
        return self

    async def heartbeat(self, agent_id: str, age: float) -> None:
        """Make an agent's last heartbeat ``age`` seconds old."""
        await self.db.execute(
            "UPDATE agents SET last_heartbeat = now() - make_interval(secs => $2)"
            " WHERE agent_id = $1",
            agent_id,
            age,
        )

    async def submit(self, **fields: object) -> dict[str, Any]:
        """POST /ains/tasks, which must succeed."""
        return await self.ok("POST", "/ains/tasks", task_body() | fields)

    async def assigned(self, **fields: object) -> str:
        """Submit a task that an agent gets at once; returns its id."""
        task = await self.submit(**fields)
        assert task["status"] == "ASSIGNED"
        return str(task["task_id"])

    async def show(self, task_id: str) -> dict[str, Any]:
        """GET /aitp/tasks/{task_id}."""
        return await self.ok("GET", f"/aitp/tasks/{task_id}")

    async def report(
        self, task_id: str, status: str, agent_id: str = "a1", **fields: object
    ) -> tuple[int, Any]:
        """PUT status, as ``agent_id``."""
        path = f"/aitp/tasks/{task_id}/status"
        return await self.call("PUT", path, {"status": status} | fields, agent_id=agent_id)

    async def row(self, task_id: str) -> asyncpg.Record:
        """The task's row."""
        row = await self.db.fetchrow("SELECT * FROM tasks WHERE task_id = $1", UUID(task_id))
        assert row is not None
        return row

    async def events(self, task_id: str) -> list[str]:
        """What the ledger says of the task, in order."""
        rows = await self.db.fetch(
            "SELECT event FROM task_events WHERE task_id = $1 ORDER BY at", UUID(task_id)
        )
        return [row["event"] for row in rows]

    async def tasks_in(self, status: str) -> int:
        """How many tasks are in this state."""
        count: int = await self.db.fetchval("SELECT count(*) FROM tasks WHERE status = $1", status)
        return count


NO_TASK = "018f3d1c-7b7e-7cc3-98c4-dc0c0c07398f"
"""An id that no task has."""


def task_body(**fields: object) -> dict[str, Any]:
    """A valid body for POST /ains/tasks."""
    return {
        "client_id": "c1", "task_type": "add", "capability_required": "sum", "input_data": {"x": 1},
    } | fields  # fmt: skip


@asynccontextmanager
async def task_api(dsn: str, **settings: Any) -> AsyncIterator[TaskApi]:
    """Serve the routes of tasks and chains on a port of their own."""
    woken: list[None] = []
    app = web.Application(client_max_size=16 * 1024**2)
    app[DB] = Database(dsn, max_size=8)
    app[SETTINGS] = Settings(**settings)
    app[STATE] = ServiceState()
    app[WAKE] = lambda: woken.append(None)
    modules = (batch, tasks, dependencies, chains, queue, routing, maintenance)
    add_routes(app, *(module.routes for module in modules), around=(problems(),))
    runner = web.AppRunner(app, access_log=None, max_line_size=2**17, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    connection = await asyncpg.connect(dsn)
    async with ClientSession() as http:
        yield TaskApi(http, f"http://{host}:{port}", connection, app[DB], woken, app[STATE])
    await connection.close()
    await runner.cleanup()
    await app[DB].close()
