"""The pool through which the service's own statements are sent."""

from collections.abc import AsyncIterator

import pytest

from ains.db.pool import Database


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Database]:
    """Connections for statements of the service, beside ``db`` for those of anybody."""
    database = Database(database_url)
    yield database
    await database.close()
