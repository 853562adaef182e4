"""One run of pgbench."""

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from ains.db.embedded.binaries import find_binaries

__all__ = ["Run", "pgbench"]

_DONE: Final = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED: Final = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)
_RATE: Final = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What pgbench says; a transaction of its is one pass through the script."""

    transactions: int
    rate: float


async def pgbench(url: str, script: Path, *, clients: int, seconds: int) -> Run:
    """Run ``script`` over and over, as prepared statements, on ``clients`` connections.

    Raises:
        RuntimeError: with pgbench's own words, also when a transaction failed.
    """
    process = await asyncio.create_subprocess_exec(
        find_binaries().program("pgbench"),
        *("--no-vacuum", "--protocol=prepared", f"--file={script}"),
        *(f"--client={clients}", f"--jobs={min(clients, 2)}", f"--time={seconds}"),
        env=os.environ | _environment(url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = (text.decode() for text in await process.communicate())
    done, rate, failed = _DONE.search(out), _RATE.search(out), _FAILED.search(out)
    if process.returncode != 0 or not done or not rate or (failed and int(failed[1])):
        raise RuntimeError(f"pgbench: {errors or out}")
    return Run(int(done[1]), float(rate[1]))


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
