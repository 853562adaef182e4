"""Request ids, the access log, and word of what requests have changed.

A `Wrapper` stands where others have an aiohttp middleware: `ains.http.handler.add_routes` puts it
around each route once, at the start. aiohttp's own middlewares cost every request 4 µs before they
do anything (12 % of a small one), and look up what is known here beforehand: the route's template.
"""

import itertools
import re
import time
from collections.abc import Callable, Collection
from logging import DEBUG, INFO
from secrets import token_hex
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from ains.http.handler import Wrapper
from ains.http.problems import CLIENT_GONE
from ains.logs import get_logger, request_id

__all__ = ["REQUEST_ID", "request_log", "tell_of_changes"]

REQUEST_ID: Final = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}", re.ASCII)
_SERVER_ERROR: Final = 500
_UNAVAILABLE: Final = 503


def request_log(*, enabled: bool = True, quiet: Collection[str] = ()) -> Wrapper:
    """Return the wrapper that names each request and logs it when it is answered.

    A client's own ``X-Request-ID`` is kept when it is sane (up to 128 characters of
    ``A-Z a-z 0-9 . _ : + / = @ -``), else one is made; the answer carries it, and so does every
    line logged meanwhile. Endpoints in ``quiet`` are logged at level debug, answers of 500 and more
    at level warning; but not 503, which every client gets while the database is away and
    `ains.http.problems` warns of. Call it after `ains.logs.configure`.
    """
    log = get_logger(__name__).bind()
    # Unique among processes, in order within one, and ten times as fast as a UUID.
    prefix = token_hex(6)
    numbers = itertools.count(1)
    clock = time.perf_counter

    def wrap(handler: Handler, _method: str, endpoint: str) -> Handler:
        level, usual = (DEBUG, log.debug) if endpoint in quiet else (INFO, log.info)
        logged = enabled and log.is_enabled_for(level)

        async def named(request: web.Request) -> web.StreamResponse:
            given = request.headers.get(REQUEST_ID)
            name = given if given and _SANE.fullmatch(given) else f"{prefix}-{next(numbers):x}"
            request_id.set(name)
            start = clock()
            status = CLIENT_GONE
            try:
                response = await handler(request)
                status = response.status
                if not response.prepared:
                    response.headers[REQUEST_ID] = name
                return response
            finally:
                wrong = status >= _SERVER_ERROR and status != _UNAVAILABLE
                if logged or (enabled and wrong):
                    write = log.warning if wrong else usual
                    write(
                        "request",
                        method=request.method,
                        path=request.path,
                        status=status,
                        ms=round((clock() - start) * 1000, 3),
                        remote=request.remote,
                    )

        return named

    return wrap


def tell_of_changes(tell: Callable[[], None], of: tuple[str, ...]) -> Wrapper:
    """Return the wrapper that calls ``tell`` after each request that may have changed something.

    ``of`` are the beginnings of the endpoints whose changes are told of.
    """

    def wrap(handler: Handler, method: str, endpoint: str) -> Handler:
        if method in {"GET", "HEAD", "*"} or not endpoint.startswith(of):
            return handler

        async def telling(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            finally:
                tell()

        return telling

    return wrap
