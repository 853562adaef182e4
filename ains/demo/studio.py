"""A client that works in chains, and hears of them at an endpoint that is not always well."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from ains.client import AinsClient, AinsClientError, BadRequest, Conflict
from ains.client.chains import ChainStep
from ains.demo.agents import FATE
from ains.demo.clients import Mood

__all__ = ["produce"]

ME: Final = "video-studio"
_EVENTS: Final = (
    "task.completed",
    "task.failed",
    "task.cancelled",
    "chain.completed",
    "chain.failed",
)
_TOPICS: Final = ("tide power", "old maps", "city bees", "night trains")
_GOODBYE_SECONDS: Final = 0.5


async def produce(ains: AinsClient, mood: Mood, rng: random.Random) -> None:
    """Submit chains and hear how they went, until cancelled; raises what a call raises."""
    with suppress(Conflict):
        await ains.agents.register(ME, display_name="Video Studio", tags=("client",))
    async with _listening(ains, rng):
        for fate in ("", "fail", "cancel"):  # one of each first, so that every metric moves
            await _one_chain(ains, rng, fate)
        while True:
            await asyncio.sleep(rng.expovariate(0.25))
            if not mood.overloaded:
                await _one_chain(ains, rng, rng.choice(["", "", "", "", "fail", "cancel"]))


async def _one_chain(ains: AinsClient, rng: random.Random, fate: str) -> None:
    topic = rng.choice(_TOPICS)
    chain = await ains.chains.submit(f"film about {topic}", ME, _steps(topic, fate))
    if fate == "cancel":
        await asyncio.sleep(rng.uniform(0, 0.5))
        with suppress(BadRequest):  # ended already
            await ains.chains.cancel(chain.chain_id)


def _steps(topic: str, fate: str) -> list[ChainStep]:
    last: dict[str, object] = {FATE: "fail"} if fate == "fail" else {}
    return [
        {
            "name": "listen in",
            "task_type": "sentiment",
            "capability_required": "classify",
            "input_data": {"subject": topic},
        },
        {
            "name": "outline",
            "task_type": "ticket_triage",
            "capability_required": "classify",
            "use_previous_output": True,
        },
        {
            "name": "subtitles",
            "task_type": "translation",
            "capability_required": "translate",
            "input_data": last,
            "use_previous_output": True,
            "max_retries": 0,
        },
    ]


@asynccontextmanager
async def _listening(ains: AinsClient, rng: random.Random) -> AsyncIterator[None]:
    """Subscribe to the studio's events with an endpoint on the loopback."""

    async def hear(_: web.Request) -> web.Response:
        await asyncio.sleep(rng.uniform(0, 0.2))
        return web.Response(status=rng.choice([200, 204, 204, 204, 500]))

    app = web.Application()
    app.router.add_post("/events", hear)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        url = f"http://127.0.0.1:{port}/events"
        webhook = await ains.webhooks.register(ME, url, _EVENTS)
        try:
            yield
        finally:
            with suppress(AinsClientError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await ains.webhooks.deactivate(webhook.webhook_id, ME)
    finally:
        await runner.cleanup()
