"""Endpoints on the loopback: a healthy one that keeps times, one that hangs, one that refuses."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from threading import Event
from time import time

from aiohttp import web

from ains.workers.resolver import AddressInfo
from benchmarks.support.processes import free_port

__all__ = ["Endpoints", "endpoints"]

_HEALTHY, _HANGS, _REFUSES, _LOST = (
    f"{name}.example" for name in ("healthy", "hangs", "refuses", "lost")
)


class Endpoints:
    """Where deliveries go, and how long they took to get there."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        """Seconds from the event to the healthy endpoint, of each delivery."""
        self.last = 0.0
        """When the latest of them came, in Unix time."""
        self.urls: dict[str, str] = {}
        self.over = Event()
        self._more = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        """Be healthy."""
        created = json.loads(await request.read())["at"]
        self.last = time()
        self.latencies.append(self.last - created)
        async with self._more:
            self._more.notify_all()
        return web.Response()

    async def arrived(self, count: int) -> None:
        """Wait until the healthy one has got ``count`` deliveries since the last clearing."""
        async with asyncio.timeout(300), self._more:
            await self._more.wait_for(lambda: len(self.latencies) >= count)

    async def hang(self, _: web.Request) -> web.Response:
        """Answer nobody."""
        await asyncio.sleep(3600)
        return web.Response()

    def look_up(self, host: str, port: int, _: socket.AddressFamily) -> AddressInfo:
        """A resolver's part: all names are the loopback's, but that of one never comes."""
        if host.startswith(_LOST):
            self.over.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@asynccontextmanager
async def endpoints() -> AsyncIterator[Endpoints]:
    """Listen until the block ends."""
    made = Endpoints()
    async with AsyncExitStack() as stack:
        for host, handler in ((_HEALTHY, made.take), (_HANGS, made.hang)):
            app = web.Application()
            app.router.add_post("/", handler)
            runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            made.urls[host] = f"http://{host}:{runner.addresses[0][1]}/"
        for host in (_REFUSES, _LOST):
            made.urls[host] = f"http://{host}:{free_port()}/"
        stack.callback(made.over.set)
        yield made
