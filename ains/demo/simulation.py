"""Brings the population to life and keeps it alive."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from ains.client import AinsClient, AinsClientError, NoAnswer, RetryPolicy, ServerError
from ains.demo.agents import live
from ains.demo.clients import Mood, submit_for
from ains.demo.operators import SCENES, buggy_script, enter, operate
from ains.demo.population import AGENTS, CLIENTS
from ains.demo.studio import produce

__all__ = ["run"]

_log: Final = logging.getLogger(__name__)
_PAUSE: Final = (0.5, 2.0)
_GOODBYE_SECONDS: Final = 1.0


async def run(base_url: str, *, seed: int | None = None) -> None:
    """Simulate agents and clients at the server of ``base_url`` until cancelled.

    About seven tasks a second, twenty at most. Equal seeds make equal decisions, though not equal
    runs: what happens also depends on time. The server or its database may go away at any time and
    come back; being cancelled signs the agents off, which takes a second at most.
    """
    root = random.Random(seed)  # noqa: S311 - nothing here is secret
    retry = RetryPolicy(attempts=3, rng=random.Random(root.random()))  # noqa: S311 - see above
    headers = {"User-Agent": "ains-demo"}
    async with AinsClient(base_url, timeout=15, retry=retry, headers=headers) as ains:
        await _until_served(ains)
        try:
            async with asyncio.TaskGroup() as group:
                _populate(group, ains, root)
        finally:
            await _sign_off(ains)


def _populate(group: asyncio.TaskGroup, ains: AinsClient, root: random.Random) -> None:
    def rng(name: str) -> random.Random:
        return random.Random(f"{seed}/{name}")  # noqa: S311 - nothing here is secret

    def settle(name: str, life: Callable[[random.Random], Awaitable[None]]) -> None:
        own = partial(life, rng(name))
        group.create_task(_again_and_again(name, own, rng(f"{name}/trouble")), name=name)

    seed = root.random()
    mood = Mood()
    for profile in AGENTS:
        settle(profile.agent_id, partial(live, profile, ains))
    for client in CLIENTS:
        settle(client.client_id, partial(submit_for, client, ains, mood))
    settle("video-studio", partial(produce, ains, mood))
    settle("operator", partial(operate, ains, mood))
    settle("buggy-script", partial(buggy_script, ains))
    group.create_task(_open(ains, rng("overture")), name="overture")


async def _open(ains: AinsClient, rng: random.Random) -> None:
    await _once("overture", partial(enter, ains), rng)
    scenes = ((scene.__name__.strip("_"), partial(scene, ains)) for scene in SCENES)
    await asyncio.gather(*(_once(name, scene, rng) for name, scene in scenes))


async def _until_served(ains: AinsClient) -> None:
    while True:
        try:
            await ains.health()
            return
        except (NoAnswer, ServerError):
            await asyncio.sleep(0.1)


async def _again_and_again(
    name: str, life: Callable[[], Awaitable[None]], rng: random.Random
) -> None:
    """Live until cancelled; trouble with the server, or a mistake of ours, is slept over."""
    while True:
        await _once(name, life, rng)


async def _once(name: str, life: Callable[[], Awaitable[None]], rng: random.Random) -> None:
    while True:
        try:
            await life()
            return
        except AinsClientError as error:
            _log.info("%s is in trouble: %s", name, error)
        except Exception:  # noqa: BLE001 - whatever it is, the others go on
            _log.exception("%s stumbled", name)
        await asyncio.sleep(rng.uniform(*_PAUSE))


async def _sign_off(ains: AinsClient) -> None:
    """Say good-bye for all agents, as far as somebody still listens."""
    with suppress(AinsClientError, TimeoutError):
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await asyncio.gather(
                *(ains.agents.heartbeat(p.agent_id, "OFFLINE") for p in AGENTS),
                return_exceptions=True,
            )
