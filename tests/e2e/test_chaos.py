"""Chains, dependencies and webhooks while server and database are killed again and again."""

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import asyncpg
from aiohttp import web
from standardwebhooks import Webhook

from ains.db.embedded import EmbeddedPostgres, temporary_data_dir
from tests.support.databases import eventually
from tests.support.live import free_port
from tests.support.recount import differences, impossible_histories
from tests.support.scraped import Values, assert_invariants, assert_monotone
from tests.support.serving import Server, serving

CLIENTS = 8
AGENTS = 4
ROUNDS = 3
EVENTS = [
    *(f"task.{name}" for name in ("created", "assigned", "started", "completed", "failed")),
    "task.cancelled",
    "chain.completed",
    "chain.failed",
]
_PREFIXES = ("ains_task", "ains_agent", "ains_chain", "ains_webhook")


class World:
    """Clients, agents and a receiver, which all put up with a server that is not there."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.rng = random.Random(seed)
        self.secrets: dict[str, str] = {}
        self.received: Counter[str] = Counter()
        self.chains = 0
        self.submitting = asyncio.Event()
        self.working = asyncio.Event()
        self.submitting.set()
        self.working.set()

    async def call(
        self, http: aiohttp.ClientSession, method: str, path: str, **options: Any
    ) -> Any:
        """The answer, once the server gives one; None when it refuses."""
        while True:
            try:
                async with http.request(method, self.url + path, **options) as response:
                    if response.status < 500:
                        return await response.json() if response.status == 200 else None
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)

    async def receive(self, request: web.Request) -> web.Response:
        """Verify with the reference implementation; be unwell now and then."""
        body = await request.read()
        client = request.match_info["client"]
        Webhook(self.secrets[client]).verify(body, dict(request.headers))
        if self.rng.random() < 0.2:
            return web.Response(status=503)
        self.received[request.headers["webhook-id"]] += 1
        return web.Response(status=204)

    async def client(self, http: aiohttp.ClientSession, name: str) -> None:
        rng = random.Random(name)
        while self.submitting.is_set():
            task = {
                "client_id": name,
                "task_type": rng.choice(["good", "good", "good", "bad", "hang"]),
                "capability_required": "work",
                "input_data": {},
                "timeout_seconds": 1,
                "max_retries": 1,
                "retry_policy": "linear",
            }
            door = rng.random()
            if door < 0.4:
                step = {k: task[k] for k in ("capability_required", "timeout_seconds")}
                kinds = rng.choice([["good"] * 3, ["good", "bad", "good"], ["good", "hang"]])
                steps = [
                    step | {"task_type": kind, "max_retries": 0, "use_previous_output": True}
                    for kind in kinds
                ]
                body = {"name": "c", "client_id": name, "steps": steps}
                chain = await self.call(http, "POST", "/ains/task-chains", json=body)
                self.chains += 1
                if chain and rng.random() < 0.1:
                    await self.call(http, "POST", f"/ains/task-chains/{chain['chain_id']}/cancel")
            else:
                first = await self.call(http, "POST", "/ains/tasks", json=task)
                if first and door < 0.8:
                    after = task | {"depends_on": [first["task_id"]], "task_type": "good"}
                    await self.call(http, "POST", "/ains/tasks", json=after)
            await asyncio.sleep(rng.uniform(0.05, 0.2))

    async def agent(self, http: aiohttp.ClientSession, name: str) -> None:
        beat = {"timestamp": 1, "status": "ACTIVE", "uptime_ms": 1}
        while self.working.is_set():
            await self.call(http, "POST", f"/ains/agents/{name}/heartbeat", json=beat)
            query = {"assigned_agent_id": name, "status": "ASSIGNED", "limit": "100"}
            page = await self.call(http, "GET", "/aitp/tasks", params=query)
            for task in page["tasks"] if page else ():
                await self.work(http, name, task)
            await asyncio.sleep(0.05)

    async def work(self, http: aiohttp.ClientSession, name: str, task: dict[str, Any]) -> None:
        path, params = f"/aitp/tasks/{task['task_id']}/status", {"agent_id": name}
        await self.call(http, "PUT", path, params=params, json={"status": "ACTIVE"})
        if task["task_type"] == "good":
            report: dict[str, Any] = {"status": "COMPLETED", "result_data": {"by": name}}
        elif task["task_type"] == "bad":
            report = {"status": "FAILED", "failure_reason": "bad_luck"}
        else:
            return  # hangs
        await self.call(http, "PUT", path, params=params, json=report)

    async def introduce(self, http: aiohttp.ClientSession, port: int) -> None:
        identity = {"public_key": "00", "signature": "00", "endpoint": "http://a"}
        for number in range(AGENTS):
            name = f"agent-{number}"
            worker: dict[str, Any] = identity | {"agent_id": name, "display_name": name}
            worker["tags"] = ["work"]
            await self.call(http, "POST", "/ains/agents", json=worker)
        for number in range(CLIENTS):
            name = f"client-{number}"
            agent = identity | {"agent_id": name, "display_name": name}
            await self.call(http, "POST", "/ains/agents", json=agent)
            url = f"http://127.0.0.1:{port}/{name}"
            hook: dict[str, Any] = {"agent_id": name, "url": url, "events": EVENTS}
            answer = await self.call(http, "POST", "/ains/webhooks", json=hook)
            self.secrets[name] = answer["secret"]

    async def work_off(self, dsn: str, people: list[asyncio.Task[None]]) -> None:
        """Submit nothing more, wait for the end of everything, and look what came of it."""
        self.submitting.clear()
        db = await asyncpg.connect(dsn)
        try:

            async def all_ended() -> bool:
                return bool(await db.fetchval(_OPEN) == 0)

            await eventually(all_ended, 90, every=0.2)
            self.working.clear()
            await asyncio.gather(*people)
            for question in (_STEPS_TWICE, _UNTOLD, _HALF_DONE):
                assert await db.fetch(question) == []
            assert await differences(db) == []
            assert await impossible_histories(db) == []
            delivered = {str(row[0]) for row in await db.fetch(_DELIVERED)}
            assert delivered <= set(self.received)
            assert len(delivered) > 100
            assert await db.fetchval("SELECT count(*) FROM task_chains") >= self.chains > 20
        finally:
            await db.close()


async def watch(server: Server, seen: list[Values]) -> None:
    """Check every scrape that reaches the database."""
    before: Values = seen[-1] if seen else {}
    while True:
        status, _, text = await server.get("/metrics")
        if status == 200 and "ains_up 1.0" in text:
            found = {k: v for k, v in (await _parsed(text)).items() if k[0].startswith(_PREFIXES)}
            assert_invariants(found)
            assert_monotone(before, found)
            before = found
            seen.append(found)
        await asyncio.sleep(0.1)


async def _parsed(text: str) -> Values:
    from prometheus_client.parser import text_string_to_metric_families

    from tests.support.scraped import values

    return await asyncio.to_thread(lambda: values(text_string_to_metric_families(text)))


_OPEN = """
SELECT (SELECT count(*) FROM tasks WHERE status IN ('PENDING', 'ASSIGNED', 'ACTIVE'))
     + (SELECT count(*) FROM task_chains WHERE status IN ('PENDING', 'RUNNING'))
     + (SELECT count(*) FROM webhook_deliveries WHERE status = 'pending')
"""
_DELIVERED = "SELECT delivery_id FROM webhook_deliveries WHERE status = 'success'"
_STEPS_TWICE = """
SELECT metadata->>'chain_id', metadata->>'step_index', count(*)
  FROM tasks WHERE metadata->>'chain_id' IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1
"""
_UNTOLD = """
SELECT subject_id, event_type, told.n, happened.n
  FROM (SELECT subject_id, event_type, count(*) AS n FROM webhook_deliveries GROUP BY 1, 2) AS told
  FULL JOIN (
       SELECT task_id AS subject_id, 'task.' || e.event AS event_type, count(*) AS n
         FROM task_events AS f
        CROSS JOIN unnest(CASE WHEN f.event = 'created' AND f.to_status = 'ASSIGNED'
                               THEN '{created,assigned}' ELSE ARRAY[f.event] END) AS e (event)
        WHERE e.event IN ('created', 'assigned', 'started', 'completed', 'failed', 'cancelled')
        GROUP BY 1, 2
        UNION ALL
       SELECT chain_id, 'chain.' || lower(to_status), count(*) FROM chain_events
        WHERE subject = 'chain' AND to_status IN ('COMPLETED', 'FAILED') GROUP BY 1, 2
       ) AS happened USING (subject_id, event_type)
 WHERE told.n IS DISTINCT FROM happened.n
"""
_HALF_DONE = """
SELECT c.chain_id, c.status, array_agg(s.status ORDER BY s.step_index)
  FROM task_chains AS c JOIN chain_steps AS s USING (chain_id)
 GROUP BY 1, 2
HAVING c.status = 'COMPLETED' AND NOT bool_and(s.status = 'COMPLETED')
    OR bool_or(s.status IN ('PENDING', 'RUNNING'))
"""


async def test_nothing_is_lost_stuck_or_done_twice() -> None:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(temporary_data_dir())
        # Durable: what was committed has to be there after a kill.
        database = await EmbeddedPostgres.start(directory)
        stack.push_async_callback(database.stop)
        port = free_port()
        world = World(f"http://127.0.0.1:{port}", 7)

        app = web.Application()
        app.router.add_post("/{client}", world.receive)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        settings: dict[str, Any] = {
            "database_url": database.dsn,
            "webhook_allow": "127.0.0.0/8",
            "webhook_retry_delays": ",".join(["0.2"] * 40),
            "webhook_timeout": "1",  # and so the leases of the dead are short
            "agent_ttl": "30",
            "sweep_interval": "0.2",
            "log_level": "warning",
        }
        http = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        )
        seen: list[Values] = []
        people: list[asyncio.Task[None]] = []
        for lap in range(ROUNDS + 1):
            async with serving(port=port, **settings) as server:
                if lap == 0:
                    await world.introduce(http, runner.addresses[0][1])
                    people += [
                        *(
                            asyncio.create_task(world.client(http, f"client-{n}"))
                            for n in range(CLIENTS)
                        ),
                        *(
                            asyncio.create_task(world.agent(http, f"agent-{n}"))
                            for n in range(AGENTS)
                        ),
                    ]
                watcher = asyncio.create_task(watch(server, seen))
                await asyncio.sleep(1.5)
                if lap < ROUNDS:
                    pid = database.pid
                    assert pid is not None
                    os.kill(pid, signal.SIGKILL)
                    await server.until("/health/ready", 200, 60)
                    await asyncio.sleep(1)
                    await server.kill()
                else:
                    await world.work_off(database.dsn, people)
                if watcher.done():
                    watcher.result()
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)
        assert len(seen) > 20
