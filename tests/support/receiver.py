"""An endpoint that webhooks are delivered to."""

import asyncio

from aiohttp import web


class Receiver:
    """An endpoint that keeps what it got and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.hang = False
        self.open = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.open += 1
        if self.hang:
            await asyncio.sleep(60)
        self.got.append((dict(request.headers), body))
        return web.Response(status=self.status, headers=self.headers, text="x" * 5000)

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_post("/hook", self.handle)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port: int = self.runner.addresses[0][1]

    async def stop(self) -> None:
        await self.runner.cleanup()
