"""The agent routes on a real port over a real database, for tests."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from ains.db.pool import Database
from ains.http.handler import add_routes
from ains.http.keys import DB, SETTINGS, WAKE
from ains.http.problems import problems
from ains.http.routes import agents, trust, webhooks
from ains.settings import Settings


@dataclass
class AgentApi:
    """A client of one server, with a look into its database."""

    http: ClientSession
    base: str
    db: asyncpg.Connection
    woken: list[None] = field(default_factory=list)

    async def call(
        self, method: str, path: str, body: object = None, /, **query: object
    ) -> tuple[int, Any]:
        """Send one request; ``body`` is sent as JSON, bytes as they are."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        url = URL(self.base + path, encoded=True)
        if query:
            url = url.extend_query([(name, str(value)) for name, value in query.items()])
        async with self.http.request(method, url, data=data) as response:
            text = await response.read()
            kind = "application/problem+json" if response.status >= 400 else "application/json"
            assert response.content_type == kind, text
            answer = json.loads(text)
            if response.status >= 400:
                assert answer["status"] == response.status
                assert answer["detail"].endswith((".", ")")), answer
            return response.status, answer

    async def ok(self, method: str, path: str, body: object = None, /, **query: object) -> Any:
        """Send one request that must succeed; returns the answer."""
        status, answer = await self.call(method, path, body, **query)
        assert status == 200, answer
        return answer

    async def status(self, method: str, path: str, body: object = None, /, **query: object) -> int:
        """Send one request; returns the status code."""
        return (await self.call(method, path, body, **query))[0]

    async def register(self, agent_id: str = "a1", **fields: object) -> Any:
        """Register an agent, which must succeed."""
        return await self.ok("POST", "/ains/agents", registration(agent_id, **fields))

    async def publish(self, agent_id: str = "a1", name: str = "sum", **fields: object) -> str:
        """Publish a capability, which must succeed; returns its id."""
        path = f"/ains/agents/{agent_id}/capabilities"
        return str((await self.ok("POST", path, offer(name, **fields)))["capability_id"])

    async def beat(self, agent_id: str = "a1", status: str = "ACTIVE", **fields: object) -> Any:
        """Send a heartbeat, which must succeed."""
        return await self.ok(
            "POST", f"/ains/agents/{agent_id}/heartbeat", heartbeat(status, **fields)
        )

    async def row(self, agent_id: str = "a1") -> asyncpg.Record:
        """The agent's row."""
        row = await self.db.fetchrow("SELECT * FROM agents WHERE agent_id = $1", agent_id)
        assert row is not None
        return row

    async def set(self, agent_id: str = "a1", **columns: object) -> None:
        """Write columns of an agent's row."""
        for name, value in columns.items():
            await self.db.execute(
                f"UPDATE agents SET {name} = $2 WHERE agent_id = $1", agent_id, value
            )

    async def routes(self, agent_id: str = "a1") -> list[str]:
        """What the agent can be given now."""
        rows = await self.db.fetch(
            "SELECT DISTINCT capability FROM agent_routes WHERE agent_id = $1 ORDER BY 1", agent_id
        )
        return [row["capability"] for row in rows]


def registration(agent_id: str = "a1", **fields: object) -> dict[str, Any]:
    """A valid body for POST /ains/agents, its signature random as old clients send it."""
    return {
        "agent_id": agent_id, "public_key": "ab" * 32, "display_name": f"Agent {agent_id}",
        "endpoint": "http://agent.example/", "signature": "cd" * 64,
    } | fields  # fmt: skip


def signed(agent_id: str = "a1", endpoint: str = "http://agent.example/") -> dict[str, Any]:
    """A registration that its key has signed."""
    key = Ed25519PrivateKey.generate()
    return registration(
        agent_id,
        endpoint=endpoint,
        public_key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign((agent_id + endpoint).encode()).hex(),
    )


def offer(name: str = "sum", **fields: object) -> dict[str, Any]:
    """A valid body for POST …/capabilities."""
    return {
        "name": name, "description": "Adds numbers.", "input_schema": {"type": "object"},
        "output_schema": {"type": "object"}, "pricing_model": "per_task", "price": 0.25,
        "latency_p99_ms": 100, "availability_percent": 99.9, "signature": "ab",
    } | fields  # fmt: skip


def heartbeat(status: str = "ACTIVE", **fields: object) -> dict[str, Any]:
    """A valid body for POST …/heartbeat."""
    return {"timestamp": 1_700_000_000, "status": status, "uptime_ms": 5000} | fields


@asynccontextmanager
async def agent_api(dsn: str, **settings: Any) -> AsyncIterator[AgentApi]:
    """Serve the agent routes on a port of their own."""
    woken: list[None] = []
    app = web.Application(client_max_size=16 * 1024**2)
    database = app[DB] = Database(dsn, max_size=8)
    app[SETTINGS] = Settings(**settings)
    app[WAKE] = lambda: woken.append(None)
    add_routes(app, agents.routes, trust.routes, webhooks.routes, around=(problems(),))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    connection = await asyncpg.connect(dsn)
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with ClientSession() as http:
            yield AgentApi(http, f"http://{host}:{port}", connection, woken)
    finally:
        await connection.close()
        await runner.cleanup()
        await database.close()
