"""The databases of the benchmark: a cluster, agents, a past."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil

from ains.db.embedded import EmbeddedPostgres, temporary_data_dir
from ains.db.migrations import upgrade

__all__ = [
    "CAPABILITY",
    "CLIENT",
    "Cluster",
    "add_agents",
    "add_past",
    "clear",
    "connected",
    "fold",
    "running_cluster",
]

CAPABILITY: Final = "benchmark"
CLIENT: Final = "bench-client"

_DISK: Final = "/var/tmp"

_AGENTS: Final = """
    INSERT INTO agents
        (agent_id, display_name, endpoint, public_key, signature, status, last_heartbeat)
    SELECT 'bench-agent-' || i, 'Agent ' || i, 'http://localhost', '00', '00', 'AVAILABLE', now()
      FROM generate_series(1, $1) AS i
"""
_CLIENT: Final = """
    INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature)
    VALUES ($1, 'Client', 'http://localhost', '00', '00')
"""
_CAPABILITIES: Final = """
    INSERT INTO agent_capabilities
        (agent_id, name, description, input_schema, output_schema, pricing_model, price,
         latency_p99_ms, availability_percent, signature)
    SELECT a.agent_id, $1, '', '{}', '{}', 'free', 0, 100, 99, '00'
      FROM agents AS a WHERE a.status = 'AVAILABLE'
"""
# Ten thousand at a time, as batches would have come: triggers write the ledger, totals and trust.
_PAST: Final = """
    INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id,
                       last_agent_id, input_data, result_data, created_at, queued_at, assigned_at,
                       started_at, completed_at, updated_at)
    SELECT 'client-' || i % 20, 'type-' || i % 10, $1, 'COMPLETED', agent, agent,
           '{"text": "what there was to do"}', '{"text": "what came of it"}',
           at, at, at + interval '1 second', at + interval '2 seconds', at + interval '9 seconds',
           at + interval '9 seconds'
      FROM generate_series($2::integer, $2::integer + 9999) AS i
     CROSS JOIN LATERAL (SELECT 'bench-agent-' || 1 + i % $3 AS agent,
                                now() - interval '30 days' + i * interval '2 seconds' AS at) AS x
"""


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server; ``pid`` is its postmaster's where that is on this machine."""

    url: str
    pid: int | None
    version: str

    def database(self, name: str) -> str:
        """The URL of another database of the same server."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}"))

    async def create(self, name: str) -> str:
        """Make a fresh database with the schema of AINS and return its URL."""
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await self._execute(f'CREATE DATABASE "{name}"')
        await upgrade(self.database(name))
        return self.database(name)

    async def drop(self, name: str) -> None:
        """Remove a database again."""
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _execute(self, statement: str) -> None:
        async with connected(self.url) as connection:
            await connection.execute(statement)


@asynccontextmanager
async def connected(
    url: str, *, command_timeout: float | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """A connection until the block ends, whose statements may take ``command_timeout`` seconds."""
    connection = await asyncpg.connect(url, command_timeout=command_timeout)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def running_cluster(
    url: str | None, data_dir: Path | None = None, *, on_disk: bool = False
) -> AsyncIterator[Cluster]:
    """Lend the server of ``url``, or the one that ``ains serve`` would start, durable as there.

    Its data are in ``data_dir``, and stay there, or in a temporary directory: in memory where
    there is plenty, unless ``on_disk`` says that waiting for the disk belongs to what is measured.
    """
    if url is not None:
        yield Cluster(url, None, await _version(url))
        return
    os.environ.pop("AINS_DATABASE_URL", None)
    with _place(data_dir, on_disk=on_disk) as place:
        async with await EmbeddedPostgres.start(place) as server:
            system = await asyncio.to_thread(_file_system, place)
            version = f"{await _version(server.dsn)}, data on {system}"
            yield Cluster(server.dsn, server.pid, version)


@contextmanager
def _place(data_dir: Path | None, *, on_disk: bool) -> Iterator[Path]:
    if data_dir is not None:
        yield data_dir
    elif on_disk:
        with TemporaryDirectory(dir=_DISK, prefix="ains-bench-") as parent:
            Path(parent).chmod(0o711)  # for PostgreSQL's own account, when root is in charge
            yield Path(parent, "data")
    else:
        with temporary_data_dir() as place:
            yield place


def _file_system(place: Path) -> str:
    """The type of the file system that ``place`` is on: waiting for tmpfs takes no time."""
    place = place.resolve()
    mounts = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
    return next(mounts[path] for path in (place, *place.parents) if path in mounts)


async def _version(url: str) -> str:
    async with connected(url) as connection:
        return "PostgreSQL {}, fsync {}, synchronous_commit {}".format(
            *[
                await connection.fetchval(f"SHOW {name}")
                for name in ("server_version", "fsync", "synchronous_commit")
            ]
        )


async def add_agents(url: str, number: int) -> None:
    """Add agents that are AVAILABLE and capable, and one that may be a client."""
    async with connected(url) as connection:
        await connection.execute(_CLIENT, CLIENT)
        await connection.execute(_AGENTS, number)
        await connection.execute(_CAPABILITIES, CAPABILITY)
        await connection.execute("VACUUM ANALYZE")


async def add_past(url: str, tasks: int, agents: int) -> None:
    """Add COMPLETED tasks, in steps of 10,000, and everything that their completion entailed."""
    async with connected(url) as connection:
        for first in range(0, tasks, 10_000):
            await connection.execute(_PAST, CAPABILITY, first, agents)
            while await connection.fetchval("SELECT metrics.fold(50000)"):
                pass
        await connection.execute("VACUUM ANALYZE")


async def fold(url: str) -> int:
    """Fold all open facts; returns their number."""
    async with connected(url, command_timeout=600) as connection:
        moved = 0
        while found := await connection.fetchval("SELECT metrics.fold()"):
            moved += found
        return moved


async def clear(url: str) -> None:
    """Take away what a measurement has left behind, and the work that this makes."""
    async with connected(url) as connection:
        await connection.execute(
            "DELETE FROM tasks WHERE status IN ('PENDING', 'ASSIGNED', 'ACTIVE')"
        )
        await fold(url)
        await connection.execute("VACUUM tasks, task_events_open, agents")
