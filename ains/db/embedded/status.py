"""What can be told of a data directory from outside, for `ains doctor`."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ains.db.embedded.binaries import find_binaries
from ains.db.embedded.cluster import check_version
from ains.db.embedded.errors import EmbeddedError
from ains.db.embedded.keeper.files import is_locked, is_postmaster, live_owners, read_postmaster
from ains.db.embedded.layout import Layout
from ains.db.embedded.privileges import account_for, check_reachable

__all__ = ["Status", "describe"]

_LEAST_FREE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Status:
    """One data directory at one moment."""

    data_dir: Path
    initialised: bool = False
    version: str | None = None
    """Major version of the cluster, such as ``18``."""
    pid: int | None = None
    """Process id of the running server."""
    port: int | None = None
    """The running server's port, else that of the last start."""
    owners: tuple[int, ...] = ()
    """Process ids of those who use it."""
    problem: str | None = None
    """What is wrong and what to do, None when nothing is."""


def describe(data_dir: Path, pg_bin: Path | None = None) -> Status:
    """Look at ``data_dir`` without changing anything. Never raises for what it finds there."""
    layout = Layout(data_dir.expanduser().resolve())
    try:
        return _describe(layout, pg_bin)
    except PermissionError as error:
        return Status(
            layout.root,
            problem=f"This user may not look at {error.filename}. Run this as the user AINS runs "
            "as, or as root, or set AINS_DATA_DIR to another directory.",
        )
    except OSError as error:
        return Status(layout.root, problem=f"{layout.root} can't be read: {error}.")


def _describe(layout: Layout, pg_bin: Path | None) -> Status:
    version = None
    with suppress(FileNotFoundError, NotADirectoryError):
        version = (layout.pgdata / "PG_VERSION").read_text().strip()
    found = read_postmaster(layout.pgdata)
    running = found if found and is_postmaster(found.pid, layout.pgdata) else None
    return Status(
        data_dir=layout.root,
        initialised=version is not None,
        version=version,
        pid=running.pid if running else None,
        port=running.port if running else layout.read_port(),
        owners=tuple(live_owners(layout.owners)),
        problem=_problem(layout, pg_bin, running=running is not None),
    )


def _problem(layout: Layout, pg_bin: Path | None, *, running: bool) -> str | None:
    try:
        binaries = find_binaries(pg_bin)
        account = account_for(layout.pgdata)
        if account is not None and layout.root.exists():
            check_reachable(layout.root, account)
        if layout.pgdata.exists():
            check_version(layout, binaries)
    except EmbeddedError as error:
        return str(error)
    if running and not is_locked(layout.keeper_lock):
        return "The server runs without its keeper. The next `ains serve` adopts it."
    if running and layout.read_password() is None:
        return (
            f"{layout.pgpass} with the server's password is missing. Stop every AINS: the next "
            "start makes a new one."
        )
    place = next(path for path in (layout.root, *layout.root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < _LEAST_FREE_BYTES:
        return f"Only {free // 2**20} MB are free on the disk of {place}: PostgreSQL needs room."
    return None
