"""Owners of an embedded server in processes of their own, for tests that kill them.

As a script it is such an owner: it starts the server, prints one line of JSON about it, and leaves
when its standard input ends.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from ains.db.embedded import (
    Binaries,
    EmbeddedError,
    EmbeddedPostgres,
    find_binaries,
    temporary_data_dir,
)
from ains.db.embedded.privileges import account_for, reachable_binaries

_CHECKOUT = Path(__file__).parents[2]
_SECONDS = 20.0


class OwnerProcess:
    """A process that owns the server of ``data_dir``."""

    def __init__(self, data_dir: Path, **environ: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.embedded", str(data_dir)],
            cwd=_CHECKOUT,
            env=os.environ | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._told: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def told(self) -> dict[str, Any]:
        """``{pid, dsn, port}`` of the server, or ``{error}``. Waits for it."""
        if self._told is None:
            assert self._process.stdout is not None
            self._told = json.loads(self._process.stdout.readline())
        assert self._told is not None
        return self._told

    def leave(self) -> None:
        """Let it stop the server in order, and wait for its end."""
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def owner_process(data_dir: Path, **environ: str) -> Iterator[OwnerProcess]:
    """An `OwnerProcess` that is dead at the end, however the test ends."""
    owner = OwnerProcess(data_dir, **environ)
    try:
        yield owner
    finally:
        owner.kill()


def alive(pid: int) -> bool:
    """Whether the process exists, and is more than a zombie."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def keeper_pid(data_dir: Path) -> int:
    return int((data_dir / "run" / "keeper.lock").read_text())


def kill_9(pid: int) -> None:
    """Kill a process that may be another user's, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))


def wait_until(condition: Callable[[], bool], seconds: float = _SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this has not become true in time"
        time.sleep(0.01)


async def eventually(condition: Callable[[], bool], seconds: float = _SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this has not become true in time"
        await asyncio.sleep(0.01)


def runnable_programs() -> Binaries:
    """PostgreSQL's programs where the account that the server runs as can run them."""
    binaries = find_binaries()
    with temporary_data_dir() as data_dir:
        account = account_for(data_dir / "pgdata")
        return binaries if account is None else reachable_binaries(binaries, account, data_dir)


async def fetchval(dsn: str, statement: str) -> Any:
    """The answer of a new connection."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def answers(dsn: str, seconds: float = _SECONDS) -> None:
    """Wait until the server behind ``dsn`` answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await fetchval(dsn, "SELECT 1")
            return
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            assert time.monotonic() < deadline, "the server has not come back in time"
            await asyncio.sleep(0.02)


async def refused(attempt: Awaitable[object]) -> EmbeddedError:
    """The error that ``attempt`` ends with."""
    try:
        await attempt
    except EmbeddedError as error:
        return error
    raise AssertionError("this should have been refused")


async def _own(data_dir: Path) -> None:
    try:
        server = await EmbeddedPostgres.start(data_dir, fast=True)
    except EmbeddedError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    told = {"pid": server.pid, "dsn": server.dsn, "port": server.port}
    print(json.dumps(told), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


if __name__ == "__main__":
    asyncio.run(_own(Path(sys.argv[1])))
