"""The embedded server as its owner sees it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import asyncpg

from ains.db.embedded import launch
from ains.db.embedded.errors import EmbeddedError, StartFailed
from ains.db.embedded.keeper.files import is_locked, live_owners, read_postmaster
from ains.db.embedded.launch import Request
from ains.db.embedded.layout import Layout, Owner, locked
from ains.db.embedded.serverlog import ServerLog

__all__ = ["EmbeddedPostgres"]

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 5.0
_STOP_SECONDS = 90.0
_CONNECT_SECONDS = 10.0
_POLL_SECONDS = 0.02


class EmbeddedPostgres:
    """A PostgreSQL that this process owns, alone or together with others.

    ::

        async with await EmbeddedPostgres.start(default_data_dir()) as server:
            connection = await asyncpg.connect(server.dsn)

    It listens on 127.0.0.1 only. The role `ains`, a superuser, owns the database `ains`; its random
    password is in the file ``pgpass`` of the data directory, which only this user can read. So a
    database administrator, as this user or as root, needs one command and no password::

        psql "$(ains db url)"      # the value of `safe_dsn`

    Several processes may start the same data directory: they share one server, and the last to
    leave, or to die, stops it. A server that dies is started again on its port.
    """

    def __init__(self, request: Request, owner: Owner, port: int, timeout: float) -> None:
        """Not for callers: use `start`."""
        self._request = request
        self._layout = request.layout
        self._owner = owner
        self._timeout = timeout
        self._callbacks: list[Callable[[], None]] = []
        self._monitor: asyncio.Task[None] | None = None
        self._pid = self.pid
        self.port = port
        self.restarts = 0
        """How often the server was seen to have been replaced by a new one."""

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        port: int | None = None,
        pg_bin: Path | None = None,
        fast: bool = False,
        timeout: float = 300.0,
    ) -> Self:
        """Make the cluster if need be, start its server or join a running one, and wait for it.

        Args:
            data_dir: a directory for AINS alone; made when missing.
            port: TCP port on 127.0.0.1. None or 0: the one of the last start, or another free one.
                A server that is already running stays on its port.
            pg_bin: directory of PostgreSQL's programs; see
                :func:`~ains.db.embedded.binaries.find_binaries` for the default.
            fast: for tests: don't wait for the disk, at the risk of the data if the machine stops.
            timeout: seconds for everything; replaying a long log after a crash takes its time.

        Raises:
            EmbeddedError: it can't be started; says why and what to do.
        """
        root = await asyncio.to_thread(lambda: data_dir.expanduser().resolve())
        request = Request(Layout(root), port or None, pg_bin, fast)
        deadline = time.monotonic() + timeout
        starting = asyncio.ensure_future(asyncio.to_thread(_own, request, deadline))
        try:
            owner, actual_port = await asyncio.shield(starting)
        except OSError as error:
            raise _in_words(error, request.layout) from error
        except asyncio.CancelledError:
            # The thread can't be interrupted, and what it has started must not be left behind.
            starting.add_done_callback(_abandon)
            await asyncio.wait([starting])
            await asyncio.to_thread(_wait_until_left, request)
            raise
        server = cls(request, owner, actual_port, timeout)
        try:
            await server._ensure_database(deadline)
        except BaseException:
            await server.stop()
            raise
        server._monitor = asyncio.create_task(server._watch(), name="embedded-postgres")
        return server

    @property
    def dsn(self) -> str:
        """The connection URL, password included: for asyncpg and libpq, never for people."""
        return self._url("ains")

    @property
    def safe_dsn(self) -> str:
        """The connection URL with the path of the password file in place of the password.

        psql, libpq and asyncpg understand it; of use only to those who may read that file.
        """
        passfile = quote(str(self._layout.pgpass))
        return f"postgresql://ains@127.0.0.1:{self.port}/ains?passfile={passfile}"

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return self._layout.root

    @property
    def pid(self) -> int | None:
        """The process id of the server, None while there is none."""
        found = read_postmaster(self._layout.pgdata)
        return found.pid if found and found.ready else None

    def on_restart(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, on the event loop, after the server has died and come back."""
        self._callbacks.append(callback)

    async def stop(self) -> None:
        """Leave. The last owner's leaving stops the server, and waits for that.

        Open connections are ended and what is committed is on disk (a "fast shutdown"). A second
        call does nothing.
        """
        if self._monitor is not None:
            self._monitor.cancel()
            with suppress(asyncio.CancelledError):
                await self._monitor
            self._monitor = None
        self._owner.release()
        await asyncio.to_thread(_wait_until_left, self._request)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _url(self, database: str) -> str:
        # Read each time: it stays right when another owner had to make a new one.
        password = quote(self._layout.read_password() or "", safe="")
        return f"postgresql://ains:{password}@127.0.0.1:{self.port}/{database}"

    async def _ensure_database(self, deadline: float) -> None:
        """Connect, and make the database `ains` when it isn't there yet."""
        log = ServerLog(self._layout)
        while True:
            try:
                connection = await self._connect("ains")
            except asyncpg.InvalidCatalogNameError:
                connection = await self._connect("postgres")
                # Another process may be making it at this moment.
                with suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                    await connection.execute("CREATE DATABASE ains")
            except (asyncpg.CannotConnectNowError, OSError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise StartFailed(
                        f"PostgreSQL in {self.data_dir} runs but doesn't answer on 127.0.0.1:"
                        f"{self.port} ({error}). Is it in another container?\n"
                        f"{log.tail()}"
                    ) from None
                await asyncio.sleep(_POLL_SECONDS)
                continue
            except asyncpg.InvalidPasswordError:
                raise StartFailed(
                    f"The password in {self._layout.pgpass} is not the one of the role ains. Put "
                    "the right one there, or stop every AINS and remove the file: a new one is "
                    "made then."
                ) from None
            except asyncpg.PostgresError as error:
                raise StartFailed(
                    f"PostgreSQL in {self.data_dir} refused: {error}\n{log.tail()}"
                ) from error
            await connection.close()
            return

    async def _connect(self, database: str) -> asyncpg.Connection:
        url = self._url(database)
        return await asyncpg.connect(url, ssl=False, timeout=_CONNECT_SECONDS)

    async def _watch(self) -> None:
        """Notice a server that was replaced, and replace a keeper that died."""
        delay = _WATCH_SECONDS
        while True:
            await asyncio.sleep(delay)
            try:
                if not is_locked(self._layout.keeper_lock):
                    _log.warning("The keeper of PostgreSQL in %s is gone", self.data_dir)
                    await asyncio.to_thread(self._revive)
                self._notice()
                delay = _WATCH_SECONDS
            except (EmbeddedError, OSError) as error:
                reason = _in_words(error, self._layout) if isinstance(error, OSError) else error
                _log.error("PostgreSQL can't be started again: %s", reason)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)

    def _revive(self) -> None:
        deadline = time.monotonic() + self._timeout
        with locked(self._layout.start_lock, deadline):
            launch.ensure_running(self._request, deadline, revived_port=self.port)

    def _notice(self) -> None:
        pid = self.pid
        if pid is None or pid == self._pid:
            return
        self._pid = pid
        self.restarts += 1
        _log.warning("PostgreSQL in %s had died and runs again, process %s", self.data_dir, pid)
        for callback in self._callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - theirs must not end our watching
                _log.exception("A callback for the restart of PostgreSQL failed")


def _in_words(error: OSError, layout: Layout) -> EmbeddedError:
    return EmbeddedError(
        f"The embedded PostgreSQL can't use {error.filename or layout.root}: {error.strerror}."
    )


def _abandon(starting: asyncio.Future[tuple[Owner, int]]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result()[0].release()


def _wait_until_left(request: Request) -> None:
    """Wait until the server has stopped, unless it has another owner. Blocks."""
    layout = request.layout
    deadline = time.monotonic() + _STOP_SECONDS
    launch.wake_keeper(layout)
    while is_locked(layout.keeper_lock):
        if live_owners(layout.owners):
            return
        if time.monotonic() > deadline:
            _log.warning("PostgreSQL in %s takes long to stop", layout.root)
            return
        time.sleep(_POLL_SECONDS)
    launch.stop_orphan(request)


def _own(request: Request, deadline: float) -> tuple[Owner, int]:
    """Become an owner of a running server; returns the claim and the server's port. Blocks."""
    launch.prepare(request)
    with locked(request.layout.start_lock, deadline):
        owner = Owner(request.layout)
        try:
            return owner, launch.ensure_running(request, deadline)
        except BaseException:
            owner.release()
            raise
