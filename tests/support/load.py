"""Clients and agents that keep a server busy, and remember what they were told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any

import aiohttp


class Load:
    """Talks to one or more servers in turn, over connections that are reused."""

    def __init__(
        self, urls: Sequence[str], *, agents: int = 3, clients: int = 4, pause: float = 0.01
    ) -> None:
        self.urls = cycle(urls)
        self.agents = [f"load-{n}" for n in range(agents)]
        self.clients = clients
        self.pause = pause
        self.accepted: set[str] = set()
        """Tasks that a server said it has accepted."""
        self.given: dict[str, set[str]] = {}
        """Agents that have seen a task as theirs, by task."""
        self.answers: Counter[int] = Counter()
        """Answers by status."""
        self.broken: Counter[str] = Counter()
        """Requests without an answer, by what went wrong."""
        self.stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def call(
        self, http: aiohttp.ClientSession, method: str, path: str, **options: Any
    ) -> Any:
        """One request; its answer when that has status 200, else None."""
        try:
            async with http.request(method, next(self.urls) + path, **options) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientConnectorError:
            self.broken["refused"] += 1
            await asyncio.sleep(self.pause)
            return None
        except (aiohttp.ClientError, TimeoutError) as error:
            self.broken[f"{type(error).__name__}: {error}"] += 1
            return None
        self.answers[response.status] += 1
        if response.status != 200:
            await asyncio.sleep(self.pause)
            return None
        return answer

    async def _client(self, http: aiohttp.ClientSession, number: int) -> None:
        task = {"task_type": "load", "capability_required": "x", "input_data": {}}
        while not self.stopped.is_set():
            # Both doors: routed at once, and by the dispatcher.
            door, client = (("/ains/tasks", "c"), ("/aitp/tasks", self.agents[0]))[number % 2]
            answer = await self.call(http, "POST", door, json=task | {"client_id": client})
            if answer:
                self.accepted.add(answer["task_id"])
            await asyncio.sleep(self.pause)

    async def _agent(self, http: aiohttp.ClientSession, agent: str, stopped: asyncio.Event) -> None:
        beats = 0.0
        loop = asyncio.get_running_loop()
        while not stopped.is_set():
            if loop.time() - beats > 0.5:
                beats = loop.time()
                await self.heartbeat(http, agent)
            query = {"assigned_agent_id": agent, "status": "ASSIGNED", "limit": "50"}
            page = await self.call(http, "GET", "/aitp/tasks", params=query)
            for task in page["tasks"] if page else ():
                if stopped.is_set():
                    break
                self.given.setdefault(task["task_id"], set()).add(agent)
                await self.call(
                    http,
                    "PUT",
                    f"/aitp/tasks/{task['task_id']}/status",
                    params={"agent_id": agent},
                    json={"status": "COMPLETED", "result_data": {}},
                )
            await asyncio.sleep(self.pause)

    async def heartbeat(self, http: aiohttp.ClientSession, agent: str) -> None:
        beat = {"timestamp": 1, "status": "ACTIVE", "uptime_ms": 1}
        await self.call(http, "POST", f"/ains/agents/{agent}/heartbeat", json=beat)

    async def _introduce(self, http: aiohttp.ClientSession) -> None:
        for agent in self.agents:
            identity = {
                "agent_id": agent,
                "public_key": "00",
                "display_name": agent,
                "endpoint": "http://a",
                "signature": "00",
                "tags": ["x"],
            }
            await self.call(http, "POST", "/ains/agents", json=identity)
            await self.heartbeat(http, agent)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """Keep the servers busy meanwhile."""
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            await self._introduce(http)
            work = [self._client(http, n) for n in range(self.clients)]
            work += [self._agent(http, agent, self.stopped) for agent in self.agents]
            self._tasks = [asyncio.create_task(c) for c in work]
            try:
                yield self
            finally:
                await self.finish()

    async def finish(self) -> None:
        """Send nothing more, and wait for the answers that are still to come."""
        self.stopped.set()
        async with asyncio.timeout(25):
            await asyncio.gather(*self._tasks)

    async def until_accepted(self, count: int, seconds: float = 30) -> None:
        """Wait until ``count`` more tasks have been accepted."""
        goal = len(self.accepted) + count
        async with asyncio.timeout(seconds):
            while len(self.accepted) < goal:
                await asyncio.sleep(0.01)

    async def work_off(self, count_open: Callable[[], Awaitable[int]], seconds: float) -> None:
        """Submit nothing more, but have the agents work until ``count_open()`` is 0."""
        done = asyncio.Event()
        async with aiohttp.ClientSession() as http:
            tasks = [asyncio.create_task(self._agent(http, agent, done)) for agent in self.agents]
            try:
                async with asyncio.timeout(seconds):
                    while await count_open():
                        await asyncio.sleep(0.02)
            finally:
                done.set()
                await asyncio.gather(*tasks)
