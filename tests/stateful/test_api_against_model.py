"""The API at random against a plain model: what /metrics shows is what happened."""

import asyncio

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from ains.db.pool import Database
from tests.stateful.machine import ApiAgainstModel
from tests.stateful.world import World
from tests.support.serving import serving

SETTINGS = settings(
    max_examples=20,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


async def test_metrics_equal_a_plain_model_of_the_api(
    database_url: str, db: asyncpg.Connection
) -> None:
    # Without workers: the machine does what they do, one step at a time.
    async with serving("--no-workers", database_url=database_url, agent_ttl="3600") as server:
        pool = Database(database_url)
        world = World(asyncio.get_running_loop(), server.url, db, pool)
        ApiAgainstModel.world = world
        try:
            await asyncio.to_thread(run_state_machine_as_test, ApiAgainstModel, settings=SETTINGS)
        finally:
            world.close()
            await pool.close()
