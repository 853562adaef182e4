"""What is tortured: a primary with its standby, a service before them, and a fast clock."""

import asyncio
import math
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from aiohttp import web

from ains.db.migrations import upgrade
from tests.support.cluster import Cluster, cluster, standby_of
from tests.support.databases import eventually
from tests.support.live import free_port
from tests.support.retention import LEDGERS, make_day
from tests.support.rows import add_agent
from tests.support.serving import Server, ains, serving
from tests.torture.actions import LISTENER
from tests.torture.writers import PASSING, connect

HISTORY = timedelta(days=60)
"""How much time passes, by the clock of the facts."""
DAYS = [timedelta(days=ago) for ago in range(1, HISTORY.days + 1) if ago % 9]
"""Those ago that have partitions; facts of the others go to the default ones."""
TASK_DAYS, LEDGER_DAYS = 5, 10

_HERE = Path(__file__).parent
_EVENTS = ["created", "assigned", "started", "completed", "failed", "cancelled"]


async def lay_ground(db: asyncpg.Connection, history: timedelta = timedelta()) -> None:
    """The clock, the records, and agents for writers; in a migrated database."""
    await db.execute((_HERE / "world.sql").read_text())
    await db.execute("INSERT INTO torture.clock VALUES ($1)", history)
    for slot in range(4):
        for n in range(8):
            await add_agent(db, f"w{slot}-{n}", tags=[])


class World:
    """Made by `world`; the methods are what happens to it."""

    def __init__(self, primary: Cluster, standby: Cluster, goal: int) -> None:
        self.primary, self.standby = primary, standby
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (primary, standby))
        self.url = f"postgresql://postgres@{hosts}/ains?target_session_attrs=read-write"
        """Leads to whichever of them may be written to."""
        self.goal = goal
        self.facts = 0
        """How many have been written, as far as is known."""
        self.wanted = goal
        """How many are to be written before writers wait."""
        self._port = free_port()
        self.service = f"http://127.0.0.1:{self._port}"
        """The same for every service that comes and goes."""
        self._server: Server | None = None
        self._service = AsyncExitStack()

    async def settings(self) -> dict[str, str]:
        """The service's settings; its ages are of today's clock, facts are of another."""
        behind = await self.fetchval("SELECT extract(epoch FROM behind)::float8 FROM torture.clock")
        days = math.ceil(behind / 86400)
        return {
            "database_url": self.url,
            "agent_ttl": "3600",
            "fold_interval": "0.5",
            "sweep_interval": "0.2",
            "webhook_allow": "127.0.0.0/8",
            "webhook_retry_delays": ",".join(["0.2"] * 40),
            "webhook_timeout": "1",
            "task_retention_days": str(days + TASK_DAYS),
            "chain_retention_days": str(days + TASK_DAYS),
            "delivery_retention_days": str(days + TASK_DAYS),
            "ledger_retention_days": str(days + LEDGER_DAYS),
            "access_log": "off",
            "log_level": "warning",
        }

    async def fetchval(self, query: str, *args: object) -> float:
        """One number, from whichever server is there; waits for it."""
        async with asyncio.timeout(30):
            while True:
                try:
                    db = await connect(self.url, "torture")
                    try:
                        found: float = await db.fetchval(query, *args)
                        return found
                    finally:
                        db.terminate()
                except PASSING:
                    await asyncio.sleep(0.1)

    async def change(self, how: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
        """Change something in the database."""
        db = await asyncpg.connect(self.url)
        try:
            await how(db)
        finally:
            await db.close()

    async def time(self) -> None:
        """Let history pass, as far as facts have been written."""
        while True:
            passed = "SELECT torture.pass($1, $2, $3)", HISTORY, self.goal, self.wanted
            self.facts = int(await self.fetchval(*passed))
            await asyncio.sleep(0.1)

    async def start_service(self) -> None:
        self._server = await self._service.enter_async_context(
            serving(port=self._port, ready=True, **await self.settings())
        )

    async def stop_service(self) -> None:
        """In order."""
        assert self._server is not None
        assert await self._server.stop() == 0, self._server.output[-4000:]
        await self._service.aclose()

    async def kill_service(self) -> None:
        assert self._server is not None
        await self._server.kill()
        await self._service.aclose()

    async def close(self) -> None:
        await self._service.aclose()

    async def restart_database(self) -> None:
        await self.primary.stop()
        await self.primary.start()

    async def kill_database(self) -> None:
        await self.primary.kill()
        await self.primary.start()

    async def promote(self) -> None:
        """The primary ends for good, in order: what it committed is at the standby by then."""

        async def streaming() -> object:
            query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            return await self.fetchval(query)

        await eventually(streaming, 30)
        await self.primary.stop()
        await asyncio.to_thread(self.standby.promote)
        self.primary = self.standby

    async def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """`ains <command>`, to its end."""
        return await asyncio.to_thread(ains, *command, **await self.settings())


async def _receive(request: web.Request) -> web.Response:
    """Unwell for every fourth delivery, once."""
    body = await request.read()
    unwell = request.app[_UNWELL]
    delivery = request.headers["webhook-id"]
    if body and int(delivery[-1], 16) % 4 == 0 and delivery not in unwell:
        unwell.add(delivery)
        return web.Response(status=503)
    return web.Response(status=204)


_UNWELL = web.AppKey("unwell", set[str])


async def _subscribe(db: asyncpg.Connection, port: int) -> None:
    await add_agent(db, LISTENER, tags=[])
    await db.execute(
        "INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)"
        " VALUES (gen_random_uuid(), $1, $2, '127.0.0.1', $3, $4)",
        LISTENER,
        f"http://127.0.0.1:{port}/",
        [*(f"task.{event}" for event in _EVENTS), "chain.completed", "chain.failed"],
        "whsec_dG9ydHVyZSB0b3J0dXJlIHRvcnR1cmU=",
    )


async def _make_partitions(db: asyncpg.Connection) -> None:
    today = datetime.now(UTC).date()
    async with db.transaction():
        for ago in DAYS:
            for ledger in LEDGERS:
                await make_day(db, today - ago, ledger)


@asynccontextmanager
async def world(goal: int) -> AsyncIterator[World]:
    """A world whose history is over with ``goal`` facts; its service runs."""
    app = web.Application()
    app[_UNWELL] = set()
    app.router.add_post("/", _receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = {"shared_buffers": "64MB", "max_wal_size": "256MB"}
    try:
        async with cluster(None, **settings) as primary:
            await upgrade(primary.dsn)
            db = await asyncpg.connect(primary.dsn)
            await _subscribe(db, runner.addresses[0][1])
            await lay_ground(db, HISTORY)
            await _make_partitions(db)
            await db.close()
            async with standby_of(primary, **settings) as standby:
                made = World(primary, standby, goal)
                await made.start_service()
                try:
                    yield made
                finally:
                    await made.close()
    finally:
        await runner.cleanup()
