"""Fixtures for everybody: a real PostgreSQL, and a fresh database for each test."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.databases import Databases, server

# Where rich is installed, structlog draws every traceback by itself, with all local variables:
# that takes seconds, and the tests have their time limits.
structlog.configure(
    processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
)

# How long an example takes says more of the machine than of what is tested.
settings.register_profile("ains", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ains")


@pytest.fixture(scope="session")
async def databases() -> AsyncIterator[Databases]:
    """The server of this test run; see :func:`tests.support.databases.server`."""
    async with server() as dsn:
        made = Databases(dsn)
        await made.prepare()
        yield made
        await made.close()


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """A fresh, migrated database."""
    async with databases.clone() as dsn:
        yield dsn


@pytest.fixture
def service_url(databases: Databases, database_url: str) -> str:
    """The test's database for a user with the rights of ``ains_app`` alone."""
    return databases.as_member(database_url, "ains_app")


@pytest.fixture
def scraper_url(databases: Databases, database_url: str) -> str:
    """The test's database for a user with the rights of ``ains_scraper`` alone."""
    return databases.as_member(database_url, "ains_scraper")


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's database, beside those of what is tested."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a database, so that CI can repeat it on other servers.

    The longest test comes first: the processes share out what is left beside it.
    """
    items.sort(key=lambda item: "torture" not in item.path.parts)
    for item in items:
        if isinstance(item, pytest.Function) and "database_url" in item.fixturenames:
            item.add_marker("database")
