"""How aiohttp serves the application: what differs from its defaults, and why."""

from typing import Final

from aiohttp import web

__all__ = ["MAX_LINE_BYTES", "make_runner"]

MAX_LINE_BYTES: Final = 128 * 1024
"""The longest request line: 1000 task ids, which /aitp/tasks/batch/status may be asked for in its
query, take 37 kB, and three times that when a client encodes the commas and hyphens."""


def make_runner(app: web.Application, *, shutdown_grace: float) -> web.AppRunner:
    """Return the runner of ``app``, whose requests get ``shutdown_grace`` seconds to finish.

    A handler goes on when its client leaves: what it began in the database shall not be torn off.
    The access log is `ains.http.middleware.request_log`'s.
    """
    return web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=False,
        max_line_size=MAX_LINE_BYTES,
        shutdown_timeout=shutdown_grace,
    )
