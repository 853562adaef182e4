"""`ains serve`: one process from its first line to its last."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import click
from aiohttp import web

from ains import __version__, logs
from ains.app import build_app
from ains.commands.database import Source, database
from ains.errors import SettingsError
from ains.http.drain import drain
from ains.http.keys import STATE
from ains.http.server import make_runner
from ains.logs import get_logger
from ains.settings import Settings

__all__ = ["bind", "run", "url_of"]

_BACKLOG: Final = 1024
_ANYWHERE: Final = {"0.0.0.0": "localhost", "::": "localhost", "": "localhost"}  # noqa: S104 - only shown
# Measured on two busy cores: to look through all that imports leave takes 50 to 150 ms, in which
# nobody is answered. Frozen, it is never looked at again. What requests make dies by reference
# counts; the thresholds are for the little that is in cycles, at half a millisecond a time.
_GC_THRESHOLDS: Final = (5_000, 20, 50)

log = get_logger(__name__)


def run(settings: Settings, *, demo: bool = False) -> int:
    """Serve until a signal; returns the exit code."""
    logs.configure(settings.log_level, settings.log_format)
    if demo:
        settings = _for_demo(settings)
    sockets = bind(settings.host, settings.port)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_Process(settings, sockets, demo=demo).run())
    finally:
        for listener in sockets:
            listener.close()


def _for_demo(settings: Settings) -> Settings:
    """Let webhooks reach the demo's own receiver, and retries happen while somebody looks."""
    changes: dict[str, object] = {"webhook_allow": (*settings.webhook_allow, "127.0.0.0/8")}
    if "webhook_retry_delays" not in settings.model_fields_set:
        changes["webhook_retry_delays"] = (1.0, 2.0)
    return settings.model_copy(update=changes)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # other platforms
        return None
    return uvloop.new_event_loop


def bind(host: str, port: int) -> list[socket.socket]:
    """Take ``port`` of every address of ``host``; 0 takes a free one, the same for all.

    Raises:
        click.ClickException: it can't be had; says why in one sentence.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            listener.bind((address[0], taken, *address[2:]))
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise _refused(error, host, port) from None
    return sockets


def _refused(error: OSError, host: str, port: int) -> click.ClickException:
    if error.errno == errno.EADDRINUSE:
        return click.ClickException(
            f"Port {port} of {host} is taken by another program. "
            "End that, or choose another port with --port or AINS_PORT."
        )
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return click.ClickException(
            f"{host} is no address of this machine. Choose another with --host or AINS_HOST."
        )
    if error.errno == errno.EACCES:
        return click.ClickException(
            f"This user may not listen on port {port}. Choose one from 1024 on, with --port."
        )
    return click.ClickException(f"Can't listen on port {port} of {host}: {error.strerror}.")


class _Process:
    """What lives from the start of the event loop to its end."""

    def __init__(self, settings: Settings, sockets: list[socket.socket], *, demo: bool) -> None:
        self._settings = settings
        self._sockets = sockets
        self._demo = demo
        self._stop = asyncio.Event()
        self._serving = False
        self._main: asyncio.Task[int] | None = None

    async def run(self) -> int:
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            async with database(self._settings) as source:
                await self._serve(source)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
        log.info("stopped")
        return 0

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            # Whoever asks twice doesn't want to wait. The embedded server stops by itself.
            sys.stderr.flush()
            os._exit(128 + number)
        log.info("stopping", signal=signal.Signals(number).name)
        self._stop.set()
        if not self._serving and self._main is not None:
            self._main.cancel()

    async def _serve(self, source: Source) -> None:
        app = build_app(source.settings)
        state = app[STATE]
        state.on_fatal = self._stop.set
        async with AsyncExitStack() as stack:
            runner = make_runner(app, shutdown_grace=self._settings.shutdown_grace)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            for listener in self._sockets:
                try:
                    await web.SockSite(runner, listener, backlog=_BACKLOG).start()
                except OSError as error:
                    raise _refused(error, *listener.getsockname()[:2]) from None
            url = url_of(self._settings.host, self._sockets[0].getsockname()[1])
            self._serving = True
            if state.started:
                _ready(url, source)
            else:
                state.on_started = lambda: _ready(url, source)
                log.info("listening, without a database yet", url=url)
            async with _population(url if self._demo else None):
                await self._stop.wait()
            state.stopping = True
            await drain(runner, self._sockets, self._settings.shutdown_grace)
        if state.fatal is not None:
            raise SettingsError(state.fatal)


def url_of(host: str, port: int) -> str:
    """Where people find a server that listens there."""
    shown = _ANYWHERE.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _ready(url: str, source: Source) -> None:
    """Tell people, and have the garbage collector forget what stays for good."""
    psql = "ains db psql"  # also where there is no psql but the wheel's
    if source.embedded and shutil.which("psql"):
        psql = f"psql {shlex.quote(source.safe_dsn)}"
    click.echo(
        f"AINS {__version__} is ready: {url}  docs: {url}/docs  metrics: {url}/metrics  "
        f"database: {psql}"
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


@asynccontextmanager
async def _population(url: str | None) -> AsyncIterator[None]:
    """Have the simulated agents and clients use the server at ``url`` meanwhile."""
    if url is None:
        yield
        return
    from ains import demo

    task = asyncio.create_task(demo.run(url), name="demo")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
