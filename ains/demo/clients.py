"""Simulated clients: they submit, watch, hurry, cancel and try again."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import pi, sin
from time import monotonic
from typing import Final

from ains.client import (
    AinsClient,
    ApiError,
    BadRequest,
    Conflict,
    SubmittedTask,
    TaskFields,
    TaskStatus,
)
from ains.demo.population import KINDS, ClientProfile, Kind

__all__ = ["Mood", "submit_for"]

_KINDS: Final = {kind.task_type: kind for kind in KINDS}
_TIDE_SECONDS: Final = 240.0
_REMEMBERED: Final = 50
_SUBJECTS: Final = ("Q3 figures", "harbour expansion", "invoice 4711", "release 2.4", "storm front")


@dataclass(slots=True)
class Mood:
    """What all clients know: how many tasks wait. When too many do, nobody submits more."""

    pending: int = 0
    patience: int = 400

    @property
    def overloaded(self) -> bool:
        """Whether the agents can't keep up, or the server does not say."""
        return self.pending > self.patience


async def submit_for(
    profile: ClientProfile, ains: AinsClient, mood: Mood, rng: random.Random
) -> None:
    """Be this client until cancelled; raises what a call raises."""
    client = _Client(profile, ains, mood, rng)
    await client.register()
    await client.live()


class _Client:
    def __init__(
        self, profile: ClientProfile, ains: AinsClient, mood: Mood, rng: random.Random
    ) -> None:
        self._profile = profile
        self._ains = ains
        self._mood = mood
        self._rng = rng
        self._mine: deque[str] = deque(maxlen=_REMEMBERED)

    async def live(self) -> None:
        rng, profile = self._rng, self._profile
        while True:
            # A tide of load that makes graphs worth looking at, from 0.4 to 1.6 of the mean.
            tide = 1 + 0.6 * sin(2 * pi * monotonic() / _TIDE_SECONDS)
            await asyncio.sleep(min(rng.expovariate(profile.rate * tide / profile.batch), 30.0))
            if not self._mood.overloaded:
                await self.submit()
            if self._mine and rng.random() < 0.25:  # noqa: PLR2004 - a quarter
                await self._meddle(rng.choice(self._mine))

    async def register(self) -> None:
        """Become known, where the API asks for it."""
        if self._profile.registered:
            with suppress(Conflict):  # from an earlier demo
                await self._ains.agents.register(
                    self._profile.client_id,
                    display_name=self._profile.display_name,
                    endpoint=f"https://{self._profile.client_id}.example",
                    tags=("client",),
                )

    async def submit(self) -> None:
        """Ask for work in this client's own way."""
        rng, profile, tasks = self._rng, self._profile, self._ains.tasks
        kind = _KINDS[rng.choice(profile.task_types)]
        if not profile.registered:
            fields: TaskFields = _basics(kind, profile, rng)
            created = await tasks.create(profile.client_id, **fields)
            self._mine.append(created.task_id)
        elif profile.batch > 1:
            many = [self._order(kind) for _ in range(rng.randint(2, 2 * profile.batch - 2))]
            self._mine.extend((await tasks.submit_batch(profile.client_id, many)).task_ids)
        else:
            self._mine.append((await tasks.submit(profile.client_id, **self._order(kind))).task_id)
        if self._mine and rng.random() < profile.fickle * profile.batch:
            await asyncio.sleep(rng.uniform(0.1, 1.5))
            await _if_possible(
                lambda: tasks.cancel(self._mine.pop(), profile.client_id, "not needed any more")
            )

    def _order(self, kind: Kind) -> SubmittedTask:
        order = _basics(kind, self._profile, self._rng)
        order["metadata"] = {"trace": f"{self._rng.getrandbits(64):016x}"}
        if self._rng.random() < 0.1:  # noqa: PLR2004 - one in ten
            order["expires_at"] = datetime.now(UTC) + timedelta(seconds=self._rng.uniform(5, 60))
        return order

    async def _meddle(self, task_id: str) -> None:
        """Do one of the things that clients do with tasks that they submitted."""
        rng, tasks, me = self._rng, self._ains.tasks, self._profile.client_id

        async def look() -> None:
            task = await tasks.get(task_id)
            if task.status is TaskStatus.FAILED:
                await tasks.retry(task_id)

        actions: tuple[Callable[[], Awaitable[object]], ...] = (
            look,
            lambda: tasks.list(client_id=me, limit=20),
            lambda: tasks.batch_status(list(self._mine)[-10:]),
            lambda: tasks.set_priority(task_id, me, rng.randint(1, 10)),
            lambda: tasks.set_timeout(task_id, me, rng.randint(5, 120)),
        )
        await _if_possible(rng.choice(actions))


def _basics(kind: Kind, profile: ClientProfile, rng: random.Random) -> SubmittedTask:
    return {
        "task_type": kind.task_type,
        "capability_required": kind.capability,
        "input_data": {"subject": rng.choice(_SUBJECTS), "pages": rng.randint(1, 40)},
        "priority": rng.choice(profile.priorities),
        "timeout_seconds": kind.timeout,
        "max_retries": kind.retries,
        "retry_policy": kind.retry_policy,
        "routing_strategy": kind.strategy,
    }


async def _if_possible(action: Callable[[], Awaitable[object]]) -> None:
    """Do what may have become impossible meanwhile: the task ended, or was given away."""
    try:
        await action()
    except ApiError as error:
        if not isinstance(error, BadRequest) and error.status not in {403, 404}:
            raise
