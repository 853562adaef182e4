"""Gets the server running: finds or makes all it needs and starts its keeper. Blocks."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ains.db.embedded import cluster, keeper, privileges
from ains.db.embedded.binaries import find_binaries
from ains.db.embedded.errors import DataDirUnusable, EmbeddedError, PortTaken, StartFailed
from ains.db.embedded.keeper.files import (
    Postmaster,
    is_locked,
    is_postmaster,
    live_owners,
    read_postmaster,
)
from ains.db.embedded.keeper.process import READY, Spec
from ains.db.embedded.layout import Layout, locked
from ains.db.embedded.serverlog import ServerLog

__all__ = ["Request", "ensure_running", "prepare", "stop_orphan", "wake_keeper"]

_log = logging.getLogger(__name__)

# Below the ports that operating systems give to outgoing connections, so that the port of the last
# start is nearly always free at the next.
_PORTS = range(20000, 30000)
_PORTS_TRIED = 50
_POLL_SECONDS = 0.02
_LEFTOVERS_SECONDS = 10.0
_STOP_SECONDS = 90.0
_IN_USE = ("could not bind", "could not create any TCP/IP sockets")
_LEFTOVER = "pre-existing shared memory block"


@dataclass(frozen=True)
class Request:
    """What the owner asked for, see ``EmbeddedPostgres.start``."""

    layout: Layout
    port: int | None = None
    pg_bin: Path | None = None
    fast: bool = False


def prepare(request: Request) -> None:
    """Make the data directory, for the locks to lie in.

    Raises:
        DataDirUnusable: it isn't fit for us.
    """
    cluster.prepare_data_dir(request.layout)


def ensure_running(request: Request, deadline: float, revived_port: int | None = None) -> int:
    """Join the running server, adopt an orphaned one, or start one; returns its port.

    The caller holds the start lock.

    Args:
        request: what is wanted.
        deadline: on the clock of `time.monotonic`.
        revived_port: the port that clients know already: no other will do, and no new cluster.

    Raises:
        EmbeddedError: none of the three is possible.
    """
    layout = request.layout
    if is_locked(layout.keeper_lock):
        port = _await_ready(layout, deadline)
        if port is not None:
            _compare_ports(request, port)
            return port
    binaries = find_binaries(request.pg_bin)
    account = privileges.account_for(layout.pgdata)
    if account is not None:
        privileges.check_reachable(layout.root, account)
        binaries = privileges.reachable_binaries(binaries, account, layout.root)
    if layout.pgdata.exists():
        cluster.check_version(layout, binaries)
    elif revived_port is not None:
        raise DataDirUnusable(f"{layout.pgdata} has been removed")
    else:
        cluster.initialise(layout, binaries, account, fast=request.fast)
    if orphan := _orphan(layout):
        _log.warning("Adopting PostgreSQL in %s, process %s", layout.root, orphan.pid)
    cluster.write_settings(layout, fast=request.fast)
    if orphan is None and layout.read_password() is None:
        cluster.reset_password(layout, binaries, account)
    command = [binaries.program("postgres"), "-D", str(layout.pgdata)]
    user = None if account is None else (account.uid, account.gid)
    remembered = layout.read_port()
    port = _start_on_a_port(request, command, user, deadline, revived_port)
    _compare_ports(request, port)
    if port != remembered:
        if remembered is not None and request.port is None:
            _log.warning("Port %s of PostgreSQL is taken; it has %s now", remembered, port)
        with suppress(OSError):  # a full disk; the next start may take another one then
            layout.port.write_text(f"{port}\n")
    return port


def wake_keeper(layout: Layout) -> None:
    """Have the keeper look for owners now."""
    with suppress(OSError, ValueError):
        if is_locked(layout.keeper_lock):
            os.kill(int(layout.keeper_lock.read_text()), signal.SIGUSR1)


def stop_orphan(request: Request) -> None:
    """Stop a server whose keeper and owners are all gone: by a keeper that finds nobody."""
    layout = request.layout
    deadline = time.monotonic() + _STOP_SECONDS
    if _orphan(layout) is None:
        return
    with suppress(EmbeddedError), locked(layout.start_lock, deadline):
        if not live_owners(layout.owners) and _orphan(layout) is not None:
            account = privileges.account_for(layout.pgdata)
            user = None if account is None else (account.uid, account.gid)
            _start_keeper(layout, ["postgres"], user, deadline)  # adopts, so the command isn't run
    while is_locked(layout.keeper_lock) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _orphan(layout: Layout) -> Postmaster | None:
    found = read_postmaster(layout.pgdata)
    return found if found and is_postmaster(found.pid, layout.pgdata) else None


def _await_ready(layout: Layout, deadline: float) -> int | None:
    """Wait for a server that has a keeper; returns its port, None when the keeper has gone."""
    log = ServerLog(layout)
    while is_locked(layout.keeper_lock):
        found = read_postmaster(layout.pgdata)
        if found and found.ready and is_postmaster(found.pid, layout.pgdata):
            return found.port
        if time.monotonic() > deadline:
            raise _failure(layout, "doesn't get ready", log.tail())
        time.sleep(_POLL_SECONDS)
    return None


def _start_on_a_port(
    request: Request,
    command: list[str],
    user: tuple[int, int] | None,
    deadline: float,
    revived_port: int | None,
) -> int:
    layout = request.layout
    leftovers_until = time.monotonic() + _LEFTOVERS_SECONDS
    orphan = _orphan(layout)
    adopted_port = orphan.port if orphan else None
    # An adopted server that has to be restarted keeps its port, too.
    for port in _ports(layout, adopted_port or revived_port or request.port):
        options = [*("-c", f"port={port}"), *("-c", "unix_socket_directories=")]
        while (said := _start_keeper(layout, [*command, *options], user, deadline)) is not None:
            if any(sign in said for sign in _IN_USE):
                break  # by another program: the next one
            if _LEFTOVER not in said or time.monotonic() > leftovers_until:
                raise _failure(layout, "does not start", said)
            time.sleep(_POLL_SECONDS)  # backends of a killed server are still on their way out
        else:
            found = read_postmaster(layout.pgdata)
            if found is None or found.port is None:
                raise _failure(layout, "has stopped again", "")
            return found.port
    if chosen := revived_port or request.port:
        raise PortTaken(
            f"Port {chosen} on 127.0.0.1, for PostgreSQL, is taken by another program. End that, "
            "or choose another port with AINS_PG_PORT, or none to get a free one."
        )
    raise PortTaken(f"No port from {_PORTS.start} to {_PORTS.stop - 1} on 127.0.0.1 is free.")


def _start_keeper(
    layout: Layout, command: list[str], user: tuple[int, int] | None, deadline: float
) -> str | None:
    """Start a keeper and wait until the server is ready; its last words when it failed."""
    spec = Spec(command=command, pgdata=str(layout.pgdata), run=str(layout.run), user=user)
    # At the end of the path: our modules must not hide any of the standard library's.
    package = Path(keeper.__file__).parent
    boot = f"import sys; sys.path.append({str(package.parent)!r})\n"
    boot += f"from {package.name}.process import main; main()"
    if not sys.executable:
        raise EmbeddedError("Python doesn't know its own program; set AINS_DATABASE_URL.")
    log = ServerLog(layout)
    with layout.keeper_log.open("wb") as complaints:
        try:
            result = subprocess.run(
                [sys.executable, "-I", "-S", "-c", boot, json.dumps(spec)],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd="/",
                env=cluster.environment(),
                start_new_session=True,
                timeout=max(deadline - time.monotonic(), 1),
            )
        except subprocess.TimeoutExpired:
            raise _failure(layout, "doesn't get ready", log.tail()) from None
    return None if result.stdout.decode() == READY else log.last_words()


def _failure(layout: Layout, what: str, said: str) -> StartFailed:
    with suppress(OSError):
        said = said or layout.keeper_log.read_text()
    return StartFailed(
        f"PostgreSQL in {layout.root} {what}. It said:\n{said or '(nothing)'}\n"
        f"Its logs are in {layout.pgdata / 'log'}."
    )


def _compare_ports(request: Request, port: int) -> None:
    if request.port is not None and request.port != port:
        _log.warning("PostgreSQL already runs, on port %s instead of %s", port, request.port)


def _ports(layout: Layout, only: int | None) -> Iterator[int]:
    if only is not None:
        yield only
        return
    if remembered := layout.read_port():
        yield remembered
    # From the path, so that several data directories seldom want the same ones.
    first = zlib.crc32(os.fsencode(layout.root))
    for number in range(_PORTS_TRIED):
        yield _PORTS[(first + number) % len(_PORTS)]
