"""pgbench on several databases at once, which take turns many times a second."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final
from urllib.parse import unquote, urlsplit

from ains.db.embedded.binaries import find_binaries

__all__ = ["Load", "Run", "pgbench"]

_TURN_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 0.01  # for the statements that are under way when a turn ends
_START_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Load:
    """A script, and the database to run it in."""

    url: str
    script: Path


@dataclass
class Run:
    """What one load did in all of its turns."""

    seconds: float = 0.0
    cpu: float = 0.0
    transactions: int = 0

    def add(self, other: "Run") -> None:
        """Count what ``other`` did as well."""
        self.seconds += other.seconds
        self.cpu += other.cpu
        self.transactions += other.transactions


async def pgbench(
    loads: Mapping[str, Load],
    *,
    clients: int,
    seconds: float,
    cpu: Callable[[], float],
    count: Callable[[str], Awaitable[int]],
) -> dict[str, Run]:
    """Run each load over and over, as prepared statements, on ``clients`` connections of its own.

    They take turns of 100 ms, in a new order each time, until each has had ``seconds``: whatever
    else happens on the machine happens to all of them. What is under way when a turn ends has 10 ms
    to come to an end, so each gets up to ``clients`` statements a turn for nothing. ``cpu`` tells
    the processor time of the server so far, ``count`` how often the script has been run in the
    database at this address.

    Raises:
        RuntimeError: with pgbench's own words, also when a transaction failed.
    """
    runs = {name: Run() for name in loads}
    async with AsyncExitStack() as stack:
        processes = {
            name: await stack.enter_async_context(_paused(load, clients, count))
            for name, load in loads.items()
        }
        for name, load in loads.items():
            runs[name].transactions = -await count(load.url)
        order = [*loads]
        while min(run.seconds for run in runs.values()) < seconds:
            random.shuffle(order)
            for name in order:
                await _turn(processes[name], runs[name], cpu)
        for name, load in loads.items():
            runs[name].transactions += await count(load.url)
    return runs


async def _turn(process: asyncio.subprocess.Process, run: Run, cpu: Callable[[], float]) -> None:
    used, start = cpu(), perf_counter()
    process.send_signal(signal.SIGCONT)
    await asyncio.sleep(_TURN_SECONDS)
    process.send_signal(signal.SIGSTOP)
    run.seconds += perf_counter() - start
    await asyncio.sleep(_PAUSE_SECONDS)
    run.cpu += cpu() - used


@asynccontextmanager
async def _paused(
    load: Load, clients: int, count: Callable[[str], Awaitable[int]]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """pgbench, stopped as soon as all its clients are connected and the first have begun."""
    before = await count(load.url)
    process = await asyncio.create_subprocess_exec(
        find_binaries().program("pgbench"),
        # Else deadlocks and serialisation failures are told at the end alone.
        *("--no-vacuum", "--verbose-errors", "--protocol=prepared", f"--file={load.script}"),
        *(f"--client={clients}", f"--jobs={min(clients, 2)}", "--time=86400"),
        env=os.environ | _environment(load.url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C and Ctrl-Z are not for it; and should this process be killed, the kernel ends a
        # stopped group that nobody can continue.
        process_group=0,
    )
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(_START_SECONDS):
            begun = False
            while not begun and not errors.done():
                begun = await count(load.url) > before
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        text = (await errors).decode()
        await process.wait()
        if text:
            raise RuntimeError(f"pgbench: {text}")


def _environment(url: str) -> dict[str, str]:
    """Where to connect to; not by the command line, which shows a password to everybody."""
    parts = urlsplit(url)
    found = {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.lstrip("/"),
    }
    return {name: value for name, value in found.items() if value}
