"""Servers that tests copy, promote and kill for good, of any installed version of PostgreSQL.

The embedded server won't do for these: it comes back when it is killed.
"""

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from ains.db.embedded import Binaries, find_binaries, temporary_data_dir
from ains.db.embedded.binaries import examine, installed_majors
from ains.db.embedded.privileges import account_for, process_options, reachable_binaries
from tests.support.live import free_port

_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "hot_standby": "on",
    # A standby that was away for a moment finds what it missed.
    "wal_keep_size": "256MB",
    "wal_retrieve_retry_interval": "50ms",
}


class Cluster:
    """One server of its own on the loopback; lets everybody in who comes from there."""

    def __init__(self, directory: Path, binaries: Binaries, **settings: str) -> None:
        """Nothing is made or started yet."""
        self._directory = directory
        self._settings = _SETTINGS | settings
        self._account = account_for(directory)
        self.binaries = binaries
        if self._account is not None:
            self.binaries = reachable_binaries(binaries, self._account, directory.parent)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def dsn(self) -> str:
        """Leads a superuser to the database ``ains``."""
        return self.url("ains")

    def url(self, database: str, user: str = "postgres") -> str:
        """Leads ``user`` to ``database``."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def run(self, program: str, *arguments: str, given: bytes = b"") -> bytes:
        """Run one of PostgreSQL's programs as the server's account; returns what it printed."""
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [self.binaries.program(program), *arguments],
            input=given,
            capture_output=True,
            check=False,
            cwd="/",
            timeout=60,
            **process_options(self._account),
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    async def start(self) -> None:
        """Start the server, and wait until it answers."""
        log = self._directory.with_suffix(".log").open("ab")
        options = [
            text for name, value in self._settings.items() for text in ("-c", f"{name}={value}")
        ]
        with log:
            self._process = subprocess.Popen(
                [
                    self.binaries.program("postgres"),
                    *("-D", str(self._directory), "-p", str(self.port)),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                **process_options(self._account),
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            assert self._process.poll() is None, self.log
            try:
                connection = await asyncpg.connect(self.url("postgres"))
            except (OSError, asyncpg.PostgresError):
                assert time.monotonic() < deadline, self.log
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return

    @property
    def log(self) -> str:
        """What the server said last."""
        return self._directory.with_suffix(".log").read_text(errors="replace")[-4000:]

    async def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it in order, whoever is connected: a fast shutdown. Harmless when it has ended."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            await asyncio.to_thread(self._process.wait, _SECONDS)
        except subprocess.TimeoutExpired as error:
            error.add_note(self.log)
            await self.kill()
            raise

    async def kill(self) -> None:
        """End all of its processes with -9, as when its machine stops."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        server.suspend()  # it starts no more
        processes = (server, *server.children(recursive=True))
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.to_thread(self._process.wait, _SECONDS)
        # As long as one of them has its memory, the next server does not start.
        async with asyncio.timeout(_SECONDS):
            while any(map(_lives, processes)):
                await asyncio.sleep(0.01)

    async def execute(self, *statements: str, database: str = "ains") -> None:
        """Run statements, each in a transaction of its own."""
        connection = await asyncpg.connect(self.url(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def wait_for_replay_of(self, primary: "Cluster") -> None:
        """Wait until this standby has replayed all that ``primary`` has written so far."""
        there = await asyncpg.connect(primary.url("postgres"))
        # What VACUUM wrote is flushed with the next commit.
        await there.execute("SELECT pg_logical_emit_message(true, 'tests', '')")
        lsn = await there.fetchval("SELECT pg_current_wal_lsn()::text")
        await there.close()
        here = await asyncpg.connect(self.url("postgres"))
        try:
            async with asyncio.timeout(_SECONDS):
                while not await here.fetchval(
                    "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", lsn
                ):
                    await asyncio.sleep(0.01)
        finally:
            await here.close()

    def promote(self) -> None:
        """Make a standby a primary, and wait until it is one."""
        self.run("pg_ctl", "promote", "-w", "-D", str(self._directory))


@asynccontextmanager
async def cluster(major: int | None = None, **settings: str) -> AsyncIterator[Cluster]:
    """A new server with an empty database ``ains``: of the version that AINS brings, or another."""
    with temporary_data_dir("primary") as directory:
        made = Cluster(directory, _binaries(major), **settings)
        made.run(
            "initdb",
            *("--pgdata", str(_writable(directory)), "--username=postgres", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        )
        try:
            await made.start()
            await made.execute("CREATE DATABASE ains", database="postgres")
            yield made
        except BaseException as error:
            error.add_note(made.log)
            raise
        finally:
            await made.stop()


@asynccontextmanager
async def standby_of(primary: Cluster, **settings: str) -> AsyncIterator[Cluster]:
    """A streaming replica of ``primary`` that answers queries."""
    with temporary_data_dir("standby") as directory:
        made = Cluster(directory, primary.binaries, **settings)
        made.run(
            "pg_basebackup",
            *("--pgdata", str(_writable(directory)), "--dbname", primary.url("postgres")),
            *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"),
        )
        try:
            await made.start()
            yield made
        except BaseException as error:
            error.add_note(made.log)
            raise
        finally:
            await made.stop()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _writable(directory: Path) -> Path:
    """Make ``directory`` for the account that the server runs as."""
    directory.mkdir(mode=0o700)
    if (account := account_for(Path("/nonexistent"))) is not None:
        account.own(directory)
    return directory


def _binaries(major: int | None) -> Binaries:
    if major is None:
        return find_binaries()
    if (found := installed_majors().get(major)) is None:
        pytest.skip(f"PostgreSQL {major} is missing: apt-get install postgresql-{major}")
    return examine(found)
