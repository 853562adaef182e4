"""An endpoint on a real port, and a database with two agents whose events it may be sent."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from ains.db.pool import Database
from tests.support.receiver import Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint on a real port that answers with 200 until it is told otherwise."""
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def pool(service_url: str, db: asyncpg.Connection) -> AsyncIterator[Database]:
    """The service's pool, on a database with the agents ``a`` and ``b``."""
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature)"
        " SELECT n, n, 'http://a', '00', '00' FROM unnest('{a,b}'::text[]) AS n"
    )
    database = Database(service_url, max_size=8)
    yield database
    await database.close()
