"""Simulated agents: they work at their own pace, fail, hang, nap and vanish."""

import asyncio
import random
from typing import Any, Final

from ains.client import AgentWorker, AinsClient, Assignment, TaskFailed
from ains.demo.population import KINDS, AgentProfile

__all__ = ["FATE", "live"]

FATE: Final = "demo_fate"
"""Key of ``input_data`` by which a client decides how a task goes: ``fail`` or ``hang``."""

_SECONDS: Final = {kind.task_type: kind.seconds for kind in KINDS}
# Longer than the default agent TTL of 60 s, so that others notice.
_ABSENCE: Final = (70.0, 90.0)
_EXCUSES: Final = (
    "the model is at capacity",
    "upstream returned 502",
    "the input could not be decoded",
    "ran out of memory at step 14",
)


async def live(profile: AgentProfile, ains: AinsClient, rng: random.Random) -> None:
    """Be this agent until cancelled."""
    while True:
        worker = AgentWorker(
            ains,
            profile.agent_id,
            dict.fromkeys(profile.capabilities, _Hands(profile, rng).work),
            concurrency=profile.hands,
            display_name=profile.display_name,
            description=profile.description or f"{', '.join(profile.capabilities)} (simulated)",
            endpoint=f"https://{profile.agent_id}.agents.example",
            tags=profile.tags,
        )
        if profile.habit == "naps":
            worker.set_status("DEGRADED")  # asleep at first: some work has to wait from the start
        async with asyncio.TaskGroup() as group:
            running = group.create_task(worker.run(), name=profile.agent_id)
            if profile.habit == "naps":
                await _nap(worker, rng)
            elif profile.habit == "vanishes":
                await asyncio.sleep(rng.uniform(60, 240))
                running.cancel()  # no good-bye: what it was doing hangs in the air
        await asyncio.sleep(rng.uniform(*_ABSENCE))


async def _nap(worker: AgentWorker, rng: random.Random) -> None:
    while True:
        worker.set_status("DEGRADED")
        await asyncio.sleep(rng.uniform(12, 25))
        worker.set_status("ACTIVE")
        await asyncio.sleep(rng.uniform(40, 120))


class _Hands:
    """What an agent does with a task."""

    def __init__(self, profile: AgentProfile, rng: random.Random) -> None:
        self._profile = profile
        self._rng = rng

    async def work(self, task: Assignment) -> dict[str, Any]:
        """Take a plausible time, then succeed or fail."""
        rng, profile = self._rng, self._profile
        fate = task.input_data.get(FATE)
        median = _SECONDS.get(task.task_type, 1.0) * profile.pace
        seconds = min(median * rng.lognormvariate(0, 0.5), 60.0)
        if fate == "hang" or (fate is None and rng.random() < profile.hangs):
            await asyncio.sleep(600)
        if fate == "fail" or (fate is None and rng.random() < profile.failures):
            await asyncio.sleep(seconds * rng.random() * 0.5)
            raise TaskFailed(rng.choice(profile.reasons), rng.choice(_EXCUSES))
        await asyncio.sleep(seconds)
        return {"by": profile.agent_id, "confidence": round(rng.betavariate(8, 2), 3)}
