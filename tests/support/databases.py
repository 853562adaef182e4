"""Databases for tests: each test gets a clone of one migrated template, in about 30 ms."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from ains.db.embedded import EmbeddedPostgres, temporary_data_dir
from ains.db.migrations import grant_roles, upgrade


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def as_user(dsn: str, user: str, password: str = "") -> str:
    """The same database for another user."""
    parts = urlsplit(dsn)
    place = parts.netloc.rpartition("@")[2]
    secret = f":{quote(password, safe='')}" if password else ""
    return urlunsplit(parts._replace(netloc=f"{user}{secret}@{place}"))


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """The DSN of a superuser on the server to test with.

    AINS_TEST_DATABASE_URL names one; AINS_TEST_POSTGRES=docker starts a container; by default the
    embedded server is started, without waiting for the disk.
    """
    async with AsyncExitStack() as stack:
        if given := os.environ.get("AINS_TEST_DATABASE_URL"):
            yield given
            return
        if os.environ.get("AINS_TEST_POSTGRES") == "docker":
            from tests.support.docker_postgres import start_container

            dsn, stop = await asyncio.to_thread(start_container)
            stack.push_async_callback(asyncio.to_thread, stop)
            yield dsn
            return
        directory = stack.enter_context(temporary_data_dir())
        embedded = await EmbeddedPostgres.start(directory, fast=True)
        stack.push_async_callback(embedded.stop)
        yield embedded.dsn


class Databases:
    """Makes and drops the databases of one test process on one server."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._prefix = f"ains_test_{os.getpid()}_{secrets.token_hex(3)}"
        self._template = f"{self._prefix}_template"
        self._password = secrets.token_hex(16)
        self._members = {
            "ains_app": f"{self._prefix}_app",
            "ains_scraper": f"{self._prefix}_scraper",
        }

    async def _admin(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def prepare(self) -> None:
        """Make the template: empty of data, migrated; and a login role for each of our roles."""
        await self._admin(f"CREATE DATABASE {self._template}")
        template = with_database(self.dsn, self._template)
        await upgrade(template)
        await grant_roles(template)
        for role, member in self._members.items():
            await self._admin(
                f"CREATE ROLE {member} LOGIN PASSWORD '{self._password}' IN ROLE {role}"
            )

    def as_member(self, dsn: str, role: str) -> str:
        """The same database for a user whose only rights are those of ``role``."""
        return as_user(dsn, self._members[role], self._password)

    @asynccontextmanager
    async def clone(self, *, empty: bool = False) -> AsyncIterator[str]:
        """The DSN of a fresh database; ``empty`` for one that was never migrated."""
        name = f"{self._prefix}_{secrets.token_hex(4)}"
        source = "" if empty else f" TEMPLATE {self._template}"
        await self._admin(f"CREATE DATABASE {name}{source} STRATEGY file_copy")
        try:
            yield with_database(self.dsn, name)
        finally:
            await self._admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def close(self) -> None:
        """Drop the template and the login roles."""
        await self._admin(
            f"DROP DATABASE IF EXISTS {self._template} WITH (FORCE)",
            *(f"DROP ROLE IF EXISTS {member}" for member in self._members.values()),
        )


async def eventually(
    condition: Callable[[], Awaitable[object]], seconds: float = 10.0, every: float = 0.02
) -> None:
    """Wait until ``condition`` holds; raises TimeoutError after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(every)
